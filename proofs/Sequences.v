(** * Sequences: finite sums, autoregressive models, sums over sequences

    The setting of Wen et al. (2023, section 2): a vocabulary [V] is any finite
    list of tokens; a sequence or prefix is a list of tokens with the LATEST
    TOKEN FIRST; a model gives next-token weights after every prefix.

    Definitions
      [Rsum l F]            sum of [F x] over the list [l]
      [Steps T F]           F 0 + ... + F (T-1)
      [sequences V n]       the list of all sequences of n tokens of [V]
      [Sum V n F]           sum of F over them
      [SumPrefixes V T F]   sum of F over all prefixes of length 0 .. T-1
      [model], [is_model]   next-token weights; non-negative and normalised
      [prob m s]            product of the conditionals along [s]
      [dominated p q]       sequences impossible for q are impossible for p
      [same_step], [same_law]  equal conditionals at s; equal laws on V^n
      [upto n t y]          the first t tokens of a sequence y of n tokens

    Main results
      [telescope]                 sum over sequences = F [] + step-wise increments
                                  (the recursion behind Eqns. 13-22)
      [marginal], [total_prob]    a model's last token sums out; its law has mass 1
      [one_sample_serves_every_step]
                                  E over sampled sequences of a sum over their
                                  prefixes = sum over prefixes, weighted by their
                                  probability (the expectations of Eqns. 5-10)

    End of sequence: a model with an absorbing EOS puts weight 1 on EOS after
    EOS and 0 elsewhere.  It is a model in the sense of this file, so every
    theorem applies with T the maximal length; zeros are allowed throughout
    these proofs unless a hypothesis says otherwise. *)

Require Import Reals List Lra Lia.
Import ListNotations.
Open Scope R_scope.

(** ** Finite sums *)

Fixpoint Rsum {A : Type} (l : list A) (F : A -> R) : R :=
  match l with
  | [] => 0
  | x :: l' => F x + Rsum l' F
  end.

Section FiniteSums.
Context {A : Type}.
Implicit Types (l : list A) (F G : A -> R).

Lemma Rsum_ext : forall l F G,
  (forall x, In x l -> F x = G x) -> Rsum l F = Rsum l G.
Proof.
  induction l as [|x l IH]; simpl; intros F G H; [reflexivity|].
  rewrite (H x) by (left; reflexivity).
  rewrite (IH F G); [reflexivity | intros y Hy; apply H; right; exact Hy].
Qed.

Lemma Rsum_plus : forall l F G, Rsum l (fun x => F x + G x) = Rsum l F + Rsum l G.
Proof. induction l as [|x l IH]; simpl; intros; [lra | rewrite IH; lra]. Qed.

Lemma Rsum_minus : forall l F G, Rsum l (fun x => F x - G x) = Rsum l F - Rsum l G.
Proof. induction l as [|x l IH]; simpl; intros; [lra | rewrite IH; lra]. Qed.

Lemma Rsum_scal : forall l c F, Rsum l (fun x => c * F x) = c * Rsum l F.
Proof. induction l as [|x l IH]; simpl; intros; [lra | rewrite IH; lra]. Qed.

Lemma Rsum_scal_r : forall l c F, Rsum l (fun x => F x * c) = Rsum l F * c.
Proof. induction l as [|x l IH]; simpl; intros; [lra | rewrite IH; lra]. Qed.

Lemma Rsum_opp : forall l F, Rsum l (fun x => - F x) = - Rsum l F.
Proof. induction l as [|x l IH]; simpl; intros; [lra | rewrite IH; lra]. Qed.

Lemma Rsum_zero : forall l F, (forall x, In x l -> F x = 0) -> Rsum l F = 0.
Proof.
  induction l as [|x l IH]; simpl; intros F H; [reflexivity|].
  rewrite (H x) by (left; reflexivity).
  rewrite IH; [lra | intros y Hy; apply H; right; exact Hy].
Qed.

Lemma Rsum_le : forall l F G,
  (forall x, In x l -> F x <= G x) -> Rsum l F <= Rsum l G.
Proof.
  induction l as [|x l IH]; simpl; intros F G H; [lra|].
  apply Rplus_le_compat; [apply H; left; reflexivity|].
  apply IH; intros y Hy; apply H; right; exact Hy.
Qed.

Lemma Rsum_nonneg : forall l F, (forall x, In x l -> 0 <= F x) -> 0 <= Rsum l F.
Proof.
  intros l F H. rewrite <- (Rsum_zero l (fun _ => 0)) by reflexivity.
  apply Rsum_le; exact H.
Qed.

Lemma Rsum_term_le : forall l F x,
  (forall y, In y l -> 0 <= F y) -> In x l -> F x <= Rsum l F.
Proof.
  induction l as [|z l IH]; simpl; intros F x H Hx; [contradiction|].
  assert (0 <= Rsum l F) by (apply Rsum_nonneg; intros y Hy; apply H; right; exact Hy).
  assert (0 <= F z) by (apply H; left; reflexivity).
  destruct Hx as [->|Hx]; [lra|].
  assert (F x <= Rsum l F) by (apply IH; [intros y Hy; apply H; right|]; assumption).
  lra.
Qed.

(** A sum of non-negative terms is zero only if each term is. *)
Lemma Rsum_nonneg_zero : forall l F,
  (forall x, In x l -> 0 <= F x) -> Rsum l F = 0 -> forall x, In x l -> F x = 0.
Proof.
  intros l F H E x Hx.
  assert (F x <= Rsum l F) by (apply Rsum_term_le; assumption).
  assert (0 <= F x) by (apply H; exact Hx). lra.
Qed.

Lemma Rsum_app : forall l l' F, Rsum (l ++ l') F = Rsum l F + Rsum l' F.
Proof. induction l as [|x l IH]; simpl; intros; [lra | rewrite IH; lra]. Qed.

Lemma Rsum_abs : forall l F, Rabs (Rsum l F) <= Rsum l (fun x => Rabs (F x)).
Proof.
  induction l as [|x l IH]; simpl; intros F; [rewrite Rabs_R0; lra|].
  eapply Rle_trans; [apply Rabs_triang|]. specialize (IH F). lra.
Qed.

End FiniteSums.

Lemma Rsum_swap : forall {A B : Type} (l : list A) (l' : list B) (F : A -> B -> R),
  Rsum l (fun x => Rsum l' (F x)) = Rsum l' (fun z => Rsum l (fun x => F x z)).
Proof.
  induction l as [|x l IH]; simpl; intros l' F.
  - symmetry; apply Rsum_zero; reflexivity.
  - rewrite IH, <- Rsum_plus. reflexivity.
Qed.

Lemma Rsum_map : forall {A B : Type} (l : list B) (h : B -> A) F,
  Rsum (map h l) F = Rsum l (fun x => F (h x)).
Proof. induction l as [|x l IH]; simpl; intros; [reflexivity | rewrite IH; reflexivity]. Qed.

Lemma Rsum_flat_map : forall {A B : Type} (l : list B) (h : B -> list A) F,
  Rsum (flat_map h l) F = Rsum l (fun x => Rsum (h x) F).
Proof.
  induction l as [|x l IH]; simpl; intros; [reflexivity | rewrite Rsum_app, IH; reflexivity].
Qed.

(** ** Sums over steps *)

Fixpoint Steps (T : nat) (F : nat -> R) : R :=
  match T with
  | O => 0
  | S t => Steps t F + F t
  end.

Lemma Steps_ext : forall T F G,
  (forall t, (t < T)%nat -> F t = G t) -> Steps T F = Steps T G.
Proof.
  induction T as [|T IH]; simpl; intros F G H; [reflexivity|].
  rewrite (IH F G), (H T); auto with arith.
Qed.

Lemma Steps_le : forall T F G,
  (forall t, (t < T)%nat -> F t <= G t) -> Steps T F <= Steps T G.
Proof.
  induction T as [|T IH]; simpl; intros F G H; [lra|].
  apply Rplus_le_compat; auto with arith.
Qed.

Lemma Steps_plus : forall T F G, Steps T (fun t => F t + G t) = Steps T F + Steps T G.
Proof. induction T as [|T IH]; simpl; intros; [lra | rewrite IH; lra]. Qed.

Lemma Steps_scal : forall T c F, Steps T (fun t => c * F t) = c * Steps T F.
Proof. induction T as [|T IH]; simpl; intros; [lra | rewrite IH; lra]. Qed.

Lemma Steps_const : forall T c, Steps T (fun _ => c) = INR T * c.
Proof. induction T as [|T IH]; intros c; [simpl; lra | rewrite S_INR; simpl; rewrite IH; lra]. Qed.

Lemma Steps_nonneg : forall T F, (forall t, (t < T)%nat -> 0 <= F t) -> 0 <= Steps T F.
Proof.
  intros T F H. replace 0 with (Steps T (fun _ => 0)) by (rewrite Steps_const; lra).
  apply Steps_le; exact H.
Qed.

Lemma Steps_nonneg_zero : forall T F,
  (forall t, (t < T)%nat -> 0 <= F t) -> Steps T F = 0 ->
  forall t, (t < T)%nat -> F t = 0.
Proof.
  induction T as [|T IH]; simpl; intros F H E t Ht; [lia|].
  assert (0 <= Steps T F) by (apply Steps_nonneg; auto with arith).
  assert (0 <= F T) by auto with arith.
  destruct (Nat.eq_dec t T) as [->|Hne]; [lra|].
  apply IH; [auto with arith | lra | lia].
Qed.

(** ** Sequences, prefixes and models *)

Fixpoint sequences {token : Type} (V : list token) (n : nat) : list (list token) :=
  match n with
  | O => [[]]
  | S n' => flat_map (fun s => map (fun v => v :: s) V) (sequences V n')
  end.

Definition Sum {token : Type} (V : list token) (n : nat) (F : list token -> R) : R :=
  Rsum (sequences V n) F.

Definition SumPrefixes {token : Type} (V : list token) (T : nat) (F : list token -> R) : R :=
  Steps T (fun t => Sum V t F).

(** [m s v]: the weight of token [v] after the prefix [s]. *)
Definition model (token : Type) : Type := list token -> token -> R.

Definition is_model {token : Type} (V : list token) (m : model token) : Prop :=
  (forall s v, 0 <= m s v) /\ (forall s, Rsum V (m s) = 1).

(** Probability of a prefix, p(Y_1:t) = product of p(Y_i | Y_<i). *)
Fixpoint prob {token : Type} (m : model token) (s : list token) : R :=
  match s with
  | [] => 1
  | v :: s' => m s' v * prob m s'
  end.

Definition dominated {token : Type} (p q : model token) : Prop :=
  forall s, prob q s = 0 -> prob p s = 0.

Definition same_step {token : Type} (V : list token) (p q : model token) (s : list token) : Prop :=
  forall v, In v V -> p s v = q s v.

Definition same_law {token : Type} (V : list token) (n : nat) (p q : model token) : Prop :=
  forall y, In y (sequences V n) -> prob p y = prob q y.

(** The first [t] tokens of a sequence of [n] tokens (latest token first). *)
Definition upto {token : Type} (n t : nat) (y : list token) : list token := skipn (n - t) y.

Section Models.
Context {token : Type} (V : list token).
Implicit Types (p q m : model token) (F G : list token -> R) (s y : list token).

Lemma in_sequences : forall n s,
  In s (sequences V n) <-> length s = n /\ incl s V.
Proof.
  induction n as [|n IH]; intros s; simpl.
  - split.
    + intros [<-|[]]. split; [reflexivity | intros x []].
    + intros [Hl _]. destruct s; [left; reflexivity | discriminate].
  - rewrite in_flat_map. split.
    + intros [s' [Hs' Hin]]. apply in_map_iff in Hin. destruct Hin as [v [<- Hv]].
      apply IH in Hs'. destruct Hs' as [Hl Hi]. simpl. split; [lia|].
      intros x [->|Hx]; [exact Hv | apply Hi, Hx].
    + intros [Hl Hi]. destruct s as [|v s]; [discriminate|].
      exists s. split.
      * apply IH. split; [simpl in Hl; lia | intros x Hx; apply Hi; right; exact Hx].
      * apply in_map_iff. exists v. split; [reflexivity | apply Hi; left; reflexivity].
Qed.

Lemma nodup_extend : forall s (l : list token) (L : list (list token)),
  NoDup l -> ~ In s L -> NoDup (flat_map (fun s => map (fun v => v :: s) V) L) ->
  NoDup (map (fun v => v :: s) l ++ flat_map (fun s => map (fun v => v :: s) V) L).
Proof.
  intros s l L Hl Hs HL. induction Hl as [|v l Hv Hl IH]; simpl; [exact HL|].
  constructor; [|exact IH]. intros Hin. apply in_app_or in Hin. destruct Hin as [Hin|Hin].
  - apply in_map_iff in Hin. destruct Hin as [u [E Hu]]. injection E as ->. contradiction.
  - apply in_flat_map in Hin. destruct Hin as [s' [Hs' Hin]].
    apply in_map_iff in Hin. destruct Hin as [u [E Hu]]. injection E as -> ->. contradiction.
Qed.

Lemma sequences_nodup : forall n, NoDup V -> NoDup (sequences V n).
Proof.
  intros n HV. induction n as [|n IH]; simpl; [repeat constructor; intros []|].
  induction IH as [|s L Hs HL IH]; simpl; [constructor|].
  apply nodup_extend; assumption.
Qed.

(** The sum over n+1 tokens is the sum over n tokens of the sum over the last. *)
Lemma Sum_S : forall n F,
  Sum V (S n) F = Sum V n (fun s => Rsum V (fun v => F (v :: s))).
Proof.
  intros n F. unfold Sum. simpl. rewrite Rsum_flat_map.
  apply Rsum_ext. intros s _. apply Rsum_map.
Qed.

Lemma Sum_0 : forall F, Sum V 0 F = F [].
Proof. intros F. unfold Sum. simpl. lra. Qed.

Lemma SumPrefixes_ext : forall T F G,
  (forall s, incl s V -> F s = G s) -> SumPrefixes V T F = SumPrefixes V T G.
Proof.
  intros T F G H. apply Steps_ext. intros t _. apply Rsum_ext.
  intros s Hs. apply H. apply in_sequences in Hs. apply Hs.
Qed.

Lemma SumPrefixes_le : forall T F G,
  (forall s, incl s V -> F s <= G s) -> SumPrefixes V T F <= SumPrefixes V T G.
Proof.
  intros T F G H. apply Steps_le. intros t _. apply Rsum_le.
  intros s Hs. apply H. apply in_sequences in Hs. apply Hs.
Qed.

Lemma SumPrefixes_nonneg : forall T F,
  (forall s, incl s V -> 0 <= F s) -> 0 <= SumPrefixes V T F.
Proof.
  intros T F H. apply Steps_nonneg. intros t _. apply Rsum_nonneg.
  intros s Hs. apply H. apply in_sequences in Hs. apply Hs.
Qed.

Lemma SumPrefixes_plus : forall T F G,
  SumPrefixes V T (fun s => F s + G s) = SumPrefixes V T F + SumPrefixes V T G.
Proof.
  intros T F G. unfold SumPrefixes. rewrite <- Steps_plus.
  apply Steps_ext. intros t _. apply Rsum_plus.
Qed.

Lemma SumPrefixes_scal : forall T c F,
  SumPrefixes V T (fun s => c * F s) = c * SumPrefixes V T F.
Proof.
  intros T c F. unfold SumPrefixes. rewrite <- Steps_scal.
  apply Steps_ext. intros t _. apply Rsum_scal.
Qed.

Lemma SumPrefixes_zero_terms : forall T F,
  (forall s, incl s V -> 0 <= F s) -> SumPrefixes V T F = 0 ->
  forall t s, (t < T)%nat -> In s (sequences V t) -> F s = 0.
Proof.
  intros T F H E t s Ht Hs.
  assert (Hpos : forall u, In u (sequences V t) -> 0 <= F u).
  { intros u Hu. apply H. apply in_sequences in Hu. apply Hu. }
  apply (Rsum_nonneg_zero (sequences V t) F); [exact Hpos | | exact Hs].
  apply (Steps_nonneg_zero T (fun n => Sum V n F)); [| exact E | exact Ht].
  intros n _. apply Rsum_nonneg. intros u Hu. apply H. apply in_sequences in Hu. apply Hu.
Qed.

(** A prefix of a sequence over [V] is one; tokens of [V] extend it. *)
Lemma incl_tail : forall v s, incl (v :: s) V -> In v V /\ incl s V.
Proof. intros v s H. split; [apply H; left; reflexivity | intros x Hx; apply H; right; exact Hx]. Qed.

(** The sum over sequences telescopes into step-wise increments.  With F an
    integrand of P(Y) and Q(Y), this is the induction of Eqns. 13-22: write the
    last step out, sum it out, recurse. *)
Theorem telescope : forall T F,
  Sum V T F = F [] + SumPrefixes V T (fun s => Rsum V (fun v => F (v :: s)) - F s).
Proof.
  induction T as [|T IH]; intros F.
  - unfold SumPrefixes. rewrite Sum_0. simpl. lra.
  - rewrite Sum_S. unfold SumPrefixes in *. simpl Steps.
    rewrite <- Rplus_assoc, <- IH. unfold Sum. rewrite Rsum_minus. lra.
Qed.

Lemma prob_nonneg : forall m s, is_model V m -> 0 <= prob m s.
Proof.
  intros m s [Hm _]. induction s as [|v s IH]; simpl; [lra|].
  apply Rmult_le_pos; [apply Hm | exact IH].
Qed.

(** Summing out the last token: sum_v m(sv) = m(s). *)
Theorem marginal : forall m s, is_model V m ->
  Rsum V (fun v => prob m (v :: s)) = prob m s.
Proof.
  intros m s [_ Hn]. simpl. rewrite Rsum_scal_r, Hn. lra.
Qed.

(** The probabilities of all sequences of T tokens sum to 1. *)
Theorem total_prob : forall m T, is_model V m -> Sum V T (prob m) = 1.
Proof.
  intros m T Hm. induction T as [|T IH]; [rewrite Sum_0; reflexivity|].
  rewrite Sum_S, <- IH. apply Rsum_ext. intros s _. apply marginal, Hm.
Qed.

Lemma prob_le_prefix : forall m v s, is_model V m -> In v V ->
  prob m (v :: s) <= prob m s.
Proof.
  intros m v s Hm Hv. rewrite <- (marginal m s Hm).
  apply (Rsum_term_le V (fun v => prob m (v :: s))); [|exact Hv].
  intros; apply prob_nonneg, Hm.
Qed.

(** Conditional domination (q(v|s) = 0 only where p(v|s) = 0) is enough for
    domination on sequences; a positive q dominates everything. *)
Lemma dominated_of_steps : forall p q,
  (forall s v, q s v = 0 -> p s v = 0) -> dominated p q.
Proof.
  intros p q H s. induction s as [|v s IH]; simpl; intros E; [lra|].
  apply Rmult_integral in E. destruct E as [E|E].
  - rewrite (H _ _ E); lra.
  - rewrite (IH E); lra.
Qed.

Lemma dominated_step : forall p q s v, dominated p q ->
  prob p s <> 0 -> q s v = 0 -> p s v = 0.
Proof.
  intros p q s v H Hs E. assert (prob p (v :: s) = 0) as E2.
  { apply H. simpl. rewrite E. lra. }
  simpl in E2. apply Rmult_integral in E2. destruct E2; [assumption | contradiction].
Qed.

Lemma same_law_prefix : forall p q n, is_model V p -> is_model V q ->
  same_law V (S n) p q -> same_law V n p q.
Proof.
  intros p q n Hp Hq H y Hy. rewrite <- (marginal p y Hp), <- (marginal q y Hq).
  apply Rsum_ext. intros v Hv. apply H. simpl. apply in_flat_map.
  exists y. split; [exact Hy|]. apply in_map_iff. exists v. auto.
Qed.

Lemma same_law_shorter : forall p q n t, is_model V p -> is_model V q ->
  (t <= n)%nat -> same_law V n p q -> same_law V t p q.
Proof.
  intros p q n t Hp Hq Ht. induction Ht as [|n Ht IH]; intros H; [exact H|].
  apply IH, same_law_prefix; assumption.
Qed.

Lemma same_law_extend : forall p q n,
  same_law V n p q ->
  (forall s, In s (sequences V n) -> prob p s <> 0 -> same_step V p q s) ->
  same_law V (S n) p q.
Proof.
  intros p q n H Hstep y Hy. simpl in Hy. apply in_flat_map in Hy.
  destruct Hy as [s [Hs Hin]]. apply in_map_iff in Hin. destruct Hin as [v [<- Hv]].
  simpl. rewrite <- (H s Hs). destruct (Req_dec (prob p s) 0) as [E|E].
  - rewrite E. lra.
  - rewrite (Hstep s Hs E v Hv). reflexivity.
Qed.

(** ** Expectations over sampled sequences *)

Lemma upto_cons : forall n t v s, (t <= n)%nat -> upto (S n) t (v :: s) = upto n t s.
Proof. intros n t v s H. unfold upto. replace (S n - t)%nat with (S (n - t)) by lia. reflexivity. Qed.

Lemma upto_all : forall n s, upto n n s = s.
Proof. intros n s. unfold upto. rewrite Nat.sub_diag. reflexivity. Qed.

(** One sampled sequence serves every step: for y ~ m, the expectation of the
    sum of F over the prefixes of y is the sum over all prefixes s of
    m(s) F(s).  All expectations of Eqns. 5-10, 21, 22, 25, 36, 37 are read so. *)
Theorem one_sample_serves_every_step : forall m T F, is_model V m ->
  Sum V T (fun y => prob m y * Steps T (fun t => F (upto T t y)))
  = SumPrefixes V T (fun s => prob m s * F s).
Proof.
  intros m T F Hm. unfold SumPrefixes. induction T as [|T IH].
  - rewrite Sum_0. simpl. lra.
  - rewrite Sum_S. simpl Steps. rewrite <- IH. unfold Sum. rewrite <- Rsum_plus.
    apply Rsum_ext. intros s _.
    rewrite (Rsum_ext V _ (fun v => prob m (v :: s) *
      (Steps T (fun t => F (upto T t s)) + F s))).
    + rewrite Rsum_scal_r, (marginal m s Hm). lra.
    + intros v _. f_equal. f_equal.
      * apply Steps_ext. intros t Ht. rewrite upto_cons by lia. reflexivity.
      * rewrite upto_cons by lia. rewrite upto_all. reflexivity.
Qed.

End Models.
