(** * DataProcessing: merging tokens never raises a divergence

    The sparse execution knows the teacher by its top-k tokens and one bucket with
    the rest; both models are merged to those buckets and the same divergence is
    applied.  Here is why that is a lower bound, for one step and for sequences.

    Definitions
      [coarse dec g l a z]     the total of [a] over the elements of [l] that [g]
                               sends to the bucket [z]
      [kl_to_middle w], [rkl_to_middle w]   one half of JS at a fixed weight

    Main results
      [data_processing]        D(coarse a, coarse b) <= D(a, b) (Jensen in each bucket)
      [coarse_nonneg]          and it is still >= 0
      [data_processing_exact]  with equality where no two elements share a bucket
                               (k = V and k = V-1)
      [data_processing_sequences]  the same for the laws of whole sequences when
                               every token is replaced by its bucket
      [data_processing_any_statistic]  or a sequence by anything computed from it
      [sparse_execution_lower_bound]   a weighted sum of step-wise terms, each merged
                               by buckets of its own, is between 0 and the dense value
      [sparse_divergences]     every word-level divergence of the objectives qualifies
      [squared_error_violates] sum (p-q)^2, which is no f-divergence, does not *)

Require Import Reals List Lra Lia.
Require Import FDistill.Sequences FDistill.Divergences FDistill.ChainRule.
Import ListNotations.
Open Scope R_scope.

Definition coarse {A B : Type} (dec : forall x y : B, {x = y} + {x <> y})
  (g : A -> B) (l : list A) (a : A -> R) (z : B) : R :=
  Rsum l (fun x => if dec (g x) z then a x else 0).

Definition kl_to_middle (w a b : R) : R := kl a (w * a + (1 - w) * b).
Definition rkl_to_middle (w a b : R) : R := kl b (w * a + (1 - w) * b).

Section DataProcessing.
Context {A B : Type} (dec : forall x y : B, {x = y} + {x <> y}).
Implicit Types (l : list A) (Z : list B) (g : A -> B) (a b : A -> R).
Notation coarsen := (coarse dec).

(** Each element falls into exactly one bucket. *)
Lemma sum_one_bucket : forall Z z0 c, NoDup Z -> In z0 Z ->
  Rsum Z (fun z => if dec z0 z then c else 0) = c.
Proof.
  intros Z z0 c HZ. induction HZ as [|z Z Hz HZ IH]; simpl; [intros []|].
  intros [->|Hin].
  - destruct (dec z0 z0) as [_|N]; [|contradiction].
    rewrite Rsum_zero; [lra|]. intros x Hx. destruct (dec z0 x) as [->|_]; [contradiction|reflexivity].
  - destruct (dec z0 z) as [->|_]; [contradiction|]. rewrite IH by exact Hin. lra.
Qed.

Lemma coarse_total : forall Z g l a, NoDup Z -> (forall x, In x l -> In (g x) Z) ->
  Rsum Z (coarsen g l a) = Rsum l a.
Proof.
  intros Z g l a HZ Hg. unfold coarse. rewrite Rsum_swap.
  apply Rsum_ext. intros x Hx. apply sum_one_bucket; [exact HZ | apply Hg, Hx].
Qed.

Lemma coarse_in_cone : forall C, cone C -> forall g l a b,
  (forall x, In x l -> C (a x) (b x)) -> forall z, C (coarsen g l a z) (coarsen g l b z).
Proof.
  intros C HC g l a b H z. unfold coarse. apply (cone_sum C HC). intros x Hx.
  destruct (dec (g x) z); [apply H, Hx | apply HC].
Qed.

(** Data processing for merging, from Jensen's inequality in each bucket. *)
Theorem data_processing : forall C phi, cone C -> subadditive C phi ->
  forall Z g l a b, NoDup Z -> (forall x, In x l -> In (g x) Z) ->
  (forall x, In x l -> C (a x) (b x)) ->
  Div phi Z (coarsen g l a) (coarsen g l b) <= Div phi l a b.
Proof.
  intros C phi HC Hphi Z g l a b HZ Hg H.
  apply Rle_trans with (Rsum Z (fun z => Rsum l (fun x => if dec (g x) z then phi (a x) (b x) else 0))).
  - apply Rsum_le. intros z _. unfold coarse.
    eapply Rle_trans; [apply (jensen C phi HC Hphi)|].
    + intros x Hx. destruct (dec (g x) z); [apply H, Hx | apply HC].
    + apply Rsum_le. intros x _. destruct (dec (g x) z); [lra | rewrite (proj1 Hphi); lra].
  - rewrite Rsum_swap. right. apply Rsum_ext. intros x Hx.
    apply sum_one_bucket; [exact HZ | apply Hg, Hx].
Qed.

Theorem coarse_nonneg : forall C phi, cone C -> subadditive C phi -> phi 1 1 = 0 ->
  forall Z g l a b, NoDup Z -> (forall x, In x l -> In (g x) Z) ->
  (forall x, In x l -> C (a x) (b x)) -> Rsum l a = 1 -> Rsum l b = 1 ->
  0 <= Div phi Z (coarsen g l a) (coarsen g l b).
Proof.
  intros C phi HC Hphi P1 Z g l a b HZ Hg H Ha Hb.
  apply f_divergence_nonneg with C; try assumption.
  - intros z _. apply coarse_in_cone; assumption.
  - rewrite coarse_total; assumption.
  - rewrite coarse_total; assumption.
Qed.

Lemma coarse_none : forall g l a z, (forall x, In x l -> g x <> z) -> coarsen g l a z = 0.
Proof.
  intros g l a z H. apply Rsum_zero. intros x Hx. destruct (dec (g x) z) as [E|_]; [|reflexivity].
  exfalso. exact (H x Hx E).
Qed.

(** Where no two elements share a bucket nothing is lost; empty buckets are free. *)
Theorem data_processing_exact : forall phi, phi 0 0 = 0 ->
  forall Z g l a b, NoDup Z -> NoDup l -> (forall x, In x l -> In (g x) Z) ->
  (forall x y, In x l -> In y l -> g x = g y -> x = y) ->
  Div phi Z (coarsen g l a) (coarsen g l b) = Div phi l a b.
Proof.
  intros phi P0 Z g l a b HZ Hl Hg Inj.
  transitivity (Rsum Z (fun z => Rsum l (fun x => if dec (g x) z then phi (a x) (b x) else 0))).
  - apply Rsum_ext. intros z _. clear Hg. induction Hl as [|x l Hx Hl IH]; [exact P0|].
    unfold coarse in *. simpl. destruct (dec (g x) z) as [E|_].
    + assert (None : forall c, Rsum l (fun y => if dec (g y) z then c y else 0) = 0).
      { intros c. apply coarse_none. intros y Hy F. apply Hx.
        rewrite (Inj x y); [exact Hy | left; reflexivity | right; exact Hy | congruence]. }
      rewrite !None, !Rplus_0_r. reflexivity.
    + rewrite !Rplus_0_l. apply IH. intros y y' Hy Hy'. apply Inj; right; assumption.
  - rewrite Rsum_swap. apply Rsum_ext. intros x Hx.
    apply sum_one_bucket; [exact HZ | apply Hg, Hx].
Qed.

End DataProcessing.

Section Sequences.
Context {token bucket : Type} (V : list token) (B : list bucket).
Variable dec : forall x y : bucket, {x = y} + {x <> y}.

(** Replacing every token of a sequence by its bucket never raises the divergence
    of the laws, for sequences of any length. *)
Theorem data_processing_sequences : forall C phi, cone C -> subadditive C phi ->
  forall (g : token -> bucket) T (p q : model token), NoDup B ->
  (forall v, In v V -> In (g v) B) -> (forall s, C (prob p s) (prob q s)) ->
  Div phi (sequences B T)
    (coarse (list_eq_dec dec) (map g) (sequences V T) (prob p))
    (coarse (list_eq_dec dec) (map g) (sequences V T) (prob q))
  <= seqDiv phi V T p q.
Proof.
  intros C phi HC Hphi g T p q HB Hg H.
  apply data_processing with C; try assumption.
  - apply sequences_nodup, HB.
  - intros y Hy. apply in_sequences in Hy. destruct Hy as [Hl Hi]. apply in_sequences. split.
    + rewrite map_length. exact Hl.
    + intros z Hz. apply in_map_iff in Hz. destruct Hz as [v [<- Hv]]. apply Hg, Hi, Hv.
  - intros y _. apply H.
Qed.

(** The same for anything that is computed from a sequence. *)
Theorem data_processing_any_statistic : forall C phi, cone C -> subadditive C phi ->
  forall (Z : list bucket) (h : list token -> bucket) T (p q : model token), NoDup Z ->
  (forall y, In y (sequences V T) -> In (h y) Z) -> (forall s, C (prob p s) (prob q s)) ->
  Div phi Z (coarse dec h (sequences V T) (prob p)) (coarse dec h (sequences V T) (prob q))
  <= seqDiv phi V T p q.
Proof.
  intros C phi HC Hphi Z h T p q HZ Hh H.
  apply data_processing with C; try assumption. intros y _. apply H.
Qed.

(** The sparse execution.  Buckets [Z s], [g s] may depend on the prefix (the
    teacher's top-k there); so may the divergence (a shifted generator, JS at the
    posterior weight); the prefix weights [c s] are the exact ones.  The total lies
    between 0 and the dense value. *)
Theorem sparse_execution_lower_bound : forall (phi : list token -> R -> R -> R) C,
  (forall s, cone (C s)) -> (forall s, subadditive (C s) (phi s)) -> (forall s, phi s 1 1 = 0) ->
  forall (c : list token -> R) (Z : list token -> list bucket) (g : list token -> token -> bucket)
    (p q : model token) T,
  is_model V p -> is_model V q -> (forall s, 0 <= c s) ->
  (forall s, NoDup (Z s)) -> (forall s v, In v V -> In (g s v) (Z s)) ->
  (forall s v, c s <> 0 -> C s (p s v) (q s v)) ->
  0 <= SumPrefixes V T (fun s => c s * Div (phi s) (Z s)
         (coarse dec (g s) V (p s)) (coarse dec (g s) V (q s)))
  /\ SumPrefixes V T (fun s => c s * Div (phi s) (Z s)
         (coarse dec (g s) V (p s)) (coarse dec (g s) V (q s)))
     <= SumPrefixes V T (fun s => c s * Div (phi s) V (p s) (q s)).
Proof.
  intros phi C HC Hphi P1 c Z g p q T Hp Hq Hc HZ Hg H. split.
  - apply SumPrefixes_nonneg. intros s _. destruct (Req_dec (c s) 0) as [E|E]; [rewrite E; lra|].
    apply Rmult_le_pos; [apply Hc|]. apply coarse_nonneg with (C s); auto.
    + apply Hp.
    + apply Hq.
  - apply SumPrefixes_le. intros s _. destruct (Req_dec (c s) 0) as [E|E]; [rewrite E; lra|].
    apply Rmult_le_compat_l; [apply Hc|]. apply data_processing with (C s); auto.
Qed.

End Sequences.

(** ** Which divergences qualify *)

Lemma kl_to_middle_subadditive : forall w, 0 < w -> w < 1 ->
  subadditive nonneg_cone (kl_to_middle w).
Proof.
  intros w Hw Hw1. split; [apply kl_0_l|]. intros a b a' b' H H'. unfold kl_to_middle.
  replace (w * (a + a') + (1 - w) * (b + b'))
    with ((w * a + (1 - w) * b) + (w * a' + (1 - w) * b')) by ring.
  apply kl_subadditive; apply mixture_cone; assumption.
Qed.

Lemma rkl_to_middle_subadditive : forall w, 0 < w -> w < 1 ->
  subadditive nonneg_cone (rkl_to_middle w).
Proof.
  intros w Hw Hw1. split; [apply kl_0_l|]. intros a b a' b' H H'. unfold rkl_to_middle.
  replace (w * (a + a') + (1 - w) * (b + b'))
    with ((w * a + (1 - w) * b) + (w * a' + (1 - w) * b')) by ring.
  apply kl_subadditive; apply mixture_cone; assumption.
Qed.

(** KL, RKL, TVD, JS at any weight, the KLs to the middle at any weight, squared
    Hellinger and chi-square: all are subadditive and vanish at (1, 1). *)
Theorem sparse_divergences :
  (subadditive dominated_cone kl /\ kl 1 1 = 0) /\
  (subadditive (fun a b => dominated_cone b a) rkl /\ rkl 1 1 = 0) /\
  (subadditive nonneg_cone tv /\ tv 1 1 = 0) /\
  (forall w, 0 < w -> w < 1 ->
     (subadditive nonneg_cone (js w) /\ js w 1 1 = 0) /\
     (subadditive nonneg_cone (kl_to_middle w) /\ kl_to_middle w 1 1 = 0) /\
     (subadditive nonneg_cone (rkl_to_middle w) /\ rkl_to_middle w 1 1 = 0)) /\
  (subadditive nonneg_cone (perspective f_hellinger (/ 2)) /\ perspective f_hellinger (/ 2) 1 1 = 0) /\
  (subadditive dominated_cone (perspective f_chi2 0) /\ perspective f_chi2 0 1 1 = 0).
Proof.
  assert (K : kl 1 1 = 0) by (apply kl_same; lra).
  split; [|split; [|split; [|split; [|split]]]].
  - split; [apply kl_subadditive | exact K].
  - split; [apply rkl_subadditive | exact K].
  - split; [apply tv_subadditive|]. unfold tv. rewrite Rminus_diag_eq, Rabs_R0 by reflexivity. ring.
  - intros w Hw Hw1.
    assert (E : w * 1 + (1 - w) * 1 = 1) by ring.
    split; [|split]; (split; [auto using js_subadditive, kl_to_middle_subadditive,
      rkl_to_middle_subadditive|]); unfold js, kl_to_middle, rkl_to_middle; rewrite E, K; ring.
  - destruct hellinger_convex as [A [S Z]]. split.
    + apply convex_subadditive_nonneg; assumption.
    + rewrite perspective_pos by lra. replace (1 / 1) with 1 by field. rewrite Z. ring.
  - destruct chi2_convex as [A Z]. split.
    + apply convex_subadditive_dominated; exact A.
    + rewrite perspective_pos by lra. replace (1 / 1) with 1 by field. rewrite Z. ring.
Qed.

(** Not every function of (p, q) has the property: merging two tokens raises
    sum (p - q)^2 here from 3/8 to 1/2. *)
Theorem squared_error_violates :
  exists (a b : nat -> R),
    Rsum [0; 1; 2]%nat a = 1 /\ Rsum [0; 1; 2]%nat b = 1 /\
    (forall i, 0 <= a i /\ 0 <= b i) /\
    Div (fun x y => (x - y) * (x - y)) [0; 1; 2]%nat a b = 3 / 8 /\
    Div (fun x y => (x - y) * (x - y)) [0; 1]%nat
      (coarse Nat.eq_dec (fun i => i - 1)%nat [0; 1; 2]%nat a)
      (coarse Nat.eq_dec (fun i => i - 1)%nat [0; 1; 2]%nat b) = 1 / 2.
Proof.
  exists (fun i => match i with 0%nat | 1%nat => / 2 | _ => 0 end).
  exists (fun i => match i with 0%nat | 1%nat => / 4 | _ => / 2 end).
  unfold Div, coarse. simpl. repeat split; try lra.
  - destruct i as [|[|i]]; lra.
  - destruct i as [|[|i]]; lra.
Qed.
