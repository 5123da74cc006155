(** * Divergences: f-divergences of finite families, Jensen, Gibbs

    Wen et al. (2023, Eqn. 4): D_f(p||q) = sum_y q(y) f(p(y)/q(y)).  The same
    definitions serve one step (sums over the vocabulary) and whole sequences
    (sums over [sequences V T]): [Div phi l a b] is the sum over a list.

    Definitions
      [perspective f L a b]   b f(a/b), and a L where b = 0 (L: the slope of f
                              at infinity)
      [Div phi l a b]         sum of phi (a x) (b x) over l
      [kl], [rkl], [js w], [tv]   the integrands;  [KL], [JS], [TV] their sums
      [nonneg_cone], [dominated_cone], [positive_cone]   which pairs (a, b) occur
      [cone], [subadditive]   what Jensen's inequality needs
      [convex_on D f]         f is convex on the set D

    Main results
      [jensen]                    phi (sum a) (sum b) <= sum phi(a, b)
      [jensen_inequality]         f (sum b x) <= sum b f(x) for convex f
      [convex_subadditive_*]      the perspective of a convex f is subadditive, on
                                  each of the three cones
      [f_divergence_nonneg]       D_f >= 0 for every convex f with f(1) = 0
      [generators_convex]         the table of generators below Eqn. 4 (KL, RKL,
                                  JS, TVD) consists of convex functions with f(1) = 0
      [kl_generator], [rkl_generator], [js_generator], [tv_generator]
                                  and the divergences are theirs (Eqn. 4)
      [js_generator_paper]        our JS generator is half the paper's (w = 1/2)
      [chi2_convex], [hellinger_convex]   two more generators
      [gibbs], [KL_zero_iff]      KL >= 0, with equality iff the families agree

    Conventions about zero.  Coq's [ln 0] and [/ 0] are 0, so 0 ln(0/b) = 0 as
    usual; wherever a logarithm's argument could vanish with a positive factor in
    front, a hypothesis excludes it (or the whole term has the probability of an
    unreachable prefix, 0, in front). *)

Require Import Reals List Lra Lia.
Require Import FDistill.Sequences.
Import ListNotations.
Open Scope R_scope.

(** ** Definitions *)

Definition perspective (f : R -> R) (L : R) (a b : R) : R :=
  if Req_EM_T b 0 then a * L else b * f (a / b).

Definition Div (phi : R -> R -> R) {A : Type} (l : list A) (a b : A -> R) : R :=
  Rsum l (fun x => phi (a x) (b x)).

Definition kl (a b : R) : R := a * ln (a / b).
Definition rkl (a b : R) : R := kl b a.
Definition tv (a b : R) : R := / 2 * Rabs (a - b).
(** The halved Jensen-Shannon integrand with prior weight w (Eqn. 8 at w = 1/2). *)
Definition js (w a b : R) : R :=
  w * kl a (w * a + (1 - w) * b) + (1 - w) * kl b (w * a + (1 - w) * b).

Definition KL {A : Type} (l : list A) (a b : A -> R) : R := Div kl l a b.
Definition JS (w : R) {A : Type} (l : list A) (a b : A -> R) : R := Div (js w) l a b.
Definition TV {A : Type} (l : list A) (a b : A -> R) : R := Div tv l a b.

Definition nonneg_cone (a b : R) : Prop := 0 <= a /\ 0 <= b.
Definition dominated_cone (a b : R) : Prop := 0 <= a /\ 0 <= b /\ (b = 0 -> a = 0).
Definition positive_cone (a b : R) : Prop := (0 < a /\ 0 < b) \/ (a = 0 /\ b = 0).

Definition cone (C : R -> R -> Prop) : Prop :=
  C 0 0 /\ forall a b a' b', C a b -> C a' b' -> C (a + a') (b + b').

Definition subadditive (C : R -> R -> Prop) (phi : R -> R -> R) : Prop :=
  phi 0 0 = 0 /\
  forall a b a' b', C a b -> C a' b' -> phi (a + a') (b + b') <= phi a b + phi a' b'.

Definition convex_on (D : R -> Prop) (f : R -> R) : Prop :=
  forall x y t, D x -> D y -> 0 <= t <= 1 ->
  f (t * x + (1 - t) * y) <= t * f x + (1 - t) * f y.

(** ** Cones *)

Lemma nonneg_cone_cone : cone nonneg_cone.
Proof. unfold cone, nonneg_cone. split; [lra | intros; lra]. Qed.

Lemma dominated_cone_cone : cone dominated_cone.
Proof.
  unfold cone, dominated_cone. split; [lra|].
  intros a b a' b' [Ha [Hb Z]] [Ha' [Hb' Z']]. split; [lra | split; [lra|]].
  intros E. rewrite Z, Z' by lra. lra.
Qed.

Lemma positive_cone_cone : cone positive_cone.
Proof. unfold cone, positive_cone. split; [right; lra | intros; lra]. Qed.

(** ** Jensen *)

Lemma cone_sum : forall C, cone C -> forall {A : Type} (l : list A) (a b : A -> R),
  (forall x, In x l -> C (a x) (b x)) -> C (Rsum l a) (Rsum l b).
Proof.
  intros C [C0 Cplus] A l a b. induction l as [|x l IH]; simpl; intros H; [exact C0|].
  apply Cplus; [apply H; left; reflexivity | apply IH; intros y Hy; apply H; right; exact Hy].
Qed.

(** Jensen's inequality over a finite sum, in its subadditive form. *)
Theorem jensen : forall C phi, cone C -> subadditive C phi ->
  forall {A : Type} (l : list A) (a b : A -> R),
  (forall x, In x l -> C (a x) (b x)) ->
  phi (Rsum l a) (Rsum l b) <= Div phi l a b.
Proof.
  intros C phi HC [P0 Psub] A l a b. unfold Div.
  induction l as [|x l IH]; simpl; intros H; [lra|].
  eapply Rle_trans; [apply Psub|].
  - apply H; left; reflexivity.
  - apply cone_sum; [exact HC | intros y Hy; apply H; right; exact Hy].
  - apply Rplus_le_compat_l, IH. intros y Hy; apply H; right; exact Hy.
Qed.

(** Every subadditive divergence of two normalised families is non-negative. *)
Theorem f_divergence_nonneg : forall C phi, cone C -> subadditive C phi -> phi 1 1 = 0 ->
  forall {A : Type} (l : list A) (a b : A -> R),
  (forall x, In x l -> C (a x) (b x)) -> Rsum l a = 1 -> Rsum l b = 1 ->
  0 <= Div phi l a b.
Proof.
  intros C phi HC Hphi P1 A l a b H Ha Hb. rewrite <- P1, <- Ha at 1.
  rewrite <- Hb at 1. apply jensen with C; assumption.
Qed.

(** ** The perspective of a convex function is subadditive *)

Lemma perspective_pos : forall f L a b, b <> 0 -> perspective f L a b = b * f (a / b).
Proof. intros f L a b H. unfold perspective. destruct (Req_EM_T b 0); [contradiction | reflexivity]. Qed.

Lemma perspective_0 : forall f L a, perspective f L a 0 = a * L.
Proof. intros f L a. unfold perspective. destruct (Req_EM_T 0 0); [reflexivity | lra]. Qed.

(** The two-term case with positive b, b': convexity at the weight b/(b+b'). *)
Lemma perspective_two : forall D f, convex_on D f -> forall a b a' b',
  0 < b -> 0 < b' -> D (a / b) -> D (a' / b') ->
  (b + b') * f ((a + a') / (b + b')) <= b * f (a / b) + b' * f (a' / b').
Proof.
  intros D f Hf a b a' b' Hb Hb' Da Da'.
  assert (Ht : 0 <= b / (b + b') <= 1).
  { split.
    - apply Rmult_le_pos; [lra | left; apply Rinv_0_lt_compat; lra].
    - apply Rmult_le_reg_r with (b + b'); [lra|]. field_simplify; lra. }
  specialize (Hf (a / b) (a' / b') (b / (b + b')) Da Da' Ht).
  replace (b / (b + b') * (a / b) + (1 - b / (b + b')) * (a' / b'))
    with ((a + a') / (b + b')) in Hf by (field; lra).
  apply Rmult_le_compat_l with (r := b + b') in Hf; [|lra].
  eapply Rle_trans; [exact Hf|]. right. field. lra.
Qed.

Lemma ratio_nonneg : forall a b, 0 <= a -> 0 < b -> 0 <= a / b.
Proof. intros. apply Rmult_le_pos; [assumption | left; apply Rinv_0_lt_compat; assumption]. Qed.

(** f convex on (0, oo), both families positive (or zero together). *)
Theorem convex_subadditive_positive : forall f L,
  convex_on (fun t => 0 < t) f -> subadditive positive_cone (perspective f L).
Proof.
  intros f L Hf. split; [rewrite perspective_0; lra|].
  intros a b a' b' [[Ha Hb]|[-> ->]] [[Ha' Hb']|[-> ->]];
    rewrite ?Rplus_0_l, ?Rplus_0_r, ?perspective_0; try lra.
  rewrite !perspective_pos by lra.
  apply perspective_two with (fun t => 0 < t); try assumption;
    apply Rdiv_lt_0_compat; assumption.
Qed.

(** f convex on [0, oo), b vanishing only where a does. *)
Theorem convex_subadditive_dominated : forall f L,
  convex_on (fun t => 0 <= t) f -> subadditive dominated_cone (perspective f L).
Proof.
  intros f L Hf. split; [rewrite perspective_0; lra|].
  intros a b a' b' [Ha [Hb Z]] [Ha' [Hb' Z']].
  destruct (Req_dec b 0) as [E|E].
  { rewrite (Z E), E, !Rplus_0_l, perspective_0. lra. }
  destruct (Req_dec b' 0) as [E'|E'].
  { rewrite (Z' E'), E', !Rplus_0_r, perspective_0. lra. }
  rewrite !perspective_pos by lra.
  apply perspective_two with (fun t => 0 <= t); try lra; try assumption;
    apply ratio_nonneg; lra.
Qed.

(** f convex on [0, oo) with every slope at most L: any non-negative families,
    zeros on either side (total variation, Jensen-Shannon, Hellinger). *)
Theorem convex_subadditive_nonneg : forall f L,
  convex_on (fun t => 0 <= t) f ->
  (forall x y, 0 <= x -> x <= y -> f y - f x <= L * (y - x)) ->
  subadditive nonneg_cone (perspective f L).
Proof.
  intros f L Hf HL. split; [rewrite perspective_0; lra|].
  assert (One : forall a b a', 0 <= a -> 0 < b -> 0 <= a' ->
    b * f ((a + a') / b) <= b * f (a / b) + a' * L).
  { intros a b a' Ha Hb Ha'.
    assert (H : f ((a + a') / b) - f (a / b) <= L * ((a + a') / b - a / b)).
    { apply HL; [apply ratio_nonneg; lra|]. unfold Rdiv.
      apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat; exact Hb | lra]. }
    replace ((a + a') / b - a / b) with (a' / b) in H by (field; lra).
    apply Rmult_le_compat_l with (r := b) in H; [|lra].
    replace (b * (L * (a' / b))) with (a' * L) in H by (field; lra). lra. }
  intros a b a' b' [Ha Hb] [Ha' Hb'].
  destruct (Req_dec b 0) as [E|E]; destruct (Req_dec b' 0) as [E'|E'];
    rewrite ?E, ?E', ?Rplus_0_l, ?Rplus_0_r, ?perspective_0.
  - lra.
  - rewrite (Rplus_comm a a'), !perspective_pos by lra. specialize (One a' b' a). lra.
  - rewrite !perspective_pos by lra. specialize (One a b a'). lra.
  - rewrite !perspective_pos by lra.
    apply perspective_two with (fun t => 0 <= t); try lra; try assumption;
      apply ratio_nonneg; lra.
Qed.

(** Jensen as it is usually written. *)
Theorem jensen_inequality : forall f, convex_on (fun t => 0 <= t) f ->
  forall {A : Type} (l : list A) (b x : A -> R),
  (forall i, In i l -> 0 <= b i) -> (forall i, In i l -> 0 <= x i) -> Rsum l b = 1 ->
  f (Rsum l (fun i => b i * x i)) <= Rsum l (fun i => b i * f (x i)).
Proof.
  intros f Hf A l b x Hb Hx H1.
  assert (J := jensen dominated_cone (perspective f 0) dominated_cone_cone
    (convex_subadditive_dominated f 0 Hf) l (fun i => b i * x i) b).
  rewrite H1, perspective_pos, Rmult_1_l in J by lra.
  unfold Rdiv in J. rewrite Rinv_1, Rmult_1_r in J.
  eapply Rle_trans; [apply J|].
  - intros i Hi. split; [apply Rmult_le_pos; auto | split; [auto|]].
    intros ->. lra.
  - right. apply Rsum_ext. intros i Hi. destruct (Req_dec (b i) 0) as [E|E].
    + rewrite E, perspective_0. lra.
    + rewrite perspective_pos by exact E. f_equal. f_equal. field. exact E.
Qed.

(** ** Gibbs' inequality *)

Lemma ln_le_minus_1 : forall x, 0 < x -> ln x <= x - 1.
Proof.
  intros x Hx. assert (H := exp_ineq1_le (ln x)). rewrite exp_ln in H by exact Hx. lra.
Qed.

Lemma ln_lt_minus_1 : forall x, 0 < x -> x <> 1 -> ln x < x - 1.
Proof.
  intros x Hx H1. assert (Hl : ln x <> 0).
  { intros E. apply H1. apply ln_inv; [lra | lra | rewrite ln_1; exact E]. }
  assert (H := exp_ineq1 (ln x) Hl). rewrite exp_ln in H by exact Hx. lra.
Qed.

Lemma ln_div : forall x y, 0 < x -> 0 < y -> ln (x / y) = ln x - ln y.
Proof.
  intros x y Hx Hy. unfold Rdiv. rewrite ln_mult by (try apply Rinv_0_lt_compat; assumption).
  rewrite ln_Rinv by exact Hy. lra.
Qed.

Lemma kl_0_l : forall b, kl 0 b = 0.
Proof. intros b. unfold kl. lra. Qed.

Lemma kl_same : forall a, 0 <= a -> kl a a = 0.
Proof.
  intros a Ha. unfold kl. destruct (Req_dec a 0) as [->|E]; [lra|].
  unfold Rdiv. rewrite Rinv_r, ln_1 by exact E. lra.
Qed.

Lemma kl_split : forall a b, 0 <= a -> (a <> 0 -> 0 < b) -> kl a b = a * ln a - a * ln b.
Proof.
  intros a b Ha Hb. unfold kl. destruct (Req_dec a 0) as [->|E]; [lra|].
  rewrite ln_div by (try apply Hb; lra). lra.
Qed.

Lemma dominated_cone_pos : forall a b, dominated_cone a b -> a <> 0 -> 0 < b.
Proof.
  intros a b [Ha [Hb Z]] E. destruct (Req_dec b 0) as [E'|E']; [exfalso; auto | lra].
Qed.

(** a ln(a/b) >= a - b, with equality only at a = b. *)
Lemma kl_gap : forall a b, dominated_cone a b -> a - b <= kl a b.
Proof.
  intros a b H. destruct (Req_dec a 0) as [->|E].
  - rewrite kl_0_l. destruct H; lra.
  - assert (Hb := dominated_cone_pos a b H E). destruct H as [Ha _].
    rewrite kl_split by (intros; lra).
    assert (L := ln_le_minus_1 (b / a)). rewrite ln_div in L by lra.
    assert (0 < b / a) by (apply Rdiv_lt_0_compat; lra).
    assert (M : a * (ln b - ln a) <= a * (b / a - 1)) by (apply Rmult_le_compat_l; lra).
    replace (a * (b / a - 1)) with (b - a) in M by (field; exact E). lra.
Qed.

Lemma kl_gap_zero : forall a b, dominated_cone a b -> kl a b = a - b -> a = b.
Proof.
  intros a b H Eq. destruct (Req_dec a 0) as [->|E].
  - rewrite kl_0_l in Eq. lra.
  - assert (Hb := dominated_cone_pos a b H E). destruct H as [Ha _].
    destruct (Req_dec a b) as [|N]; [assumption|exfalso].
    rewrite kl_split in Eq by (intros; lra).
    assert (L := ln_lt_minus_1 (b / a)). rewrite ln_div in L by lra.
    assert (0 < b / a) by (apply Rdiv_lt_0_compat; lra).
    assert (b / a <> 1).
    { intros F. apply N. apply Rmult_eq_reg_r with (/ a).
      - unfold Rdiv in F. rewrite F. apply Rinv_r; exact E.
      - apply Rinv_neq_0_compat; exact E. }
    assert (M : a * (ln b - ln a) < a * (b / a - 1)) by (apply Rmult_lt_compat_l; lra).
    replace (a * (b / a - 1)) with (b - a) in M by (field; exact E). lra.
Qed.

(** KL >= 0, a's total being at least b's (Gibbs). *)
Theorem gibbs : forall {A : Type} (l : list A) (a b : A -> R),
  (forall x, In x l -> dominated_cone (a x) (b x)) -> Rsum l b <= Rsum l a ->
  0 <= KL l a b.
Proof.
  intros A l a b H Hs. apply Rle_trans with (Rsum l (fun x => a x - b x)).
  - rewrite Rsum_minus. lra.
  - apply Rsum_le. intros x Hx. apply kl_gap, H, Hx.
Qed.

(** KL = 0 iff the two families agree. *)
Theorem KL_zero_iff : forall {A : Type} (l : list A) (a b : A -> R),
  (forall x, In x l -> dominated_cone (a x) (b x)) -> Rsum l a = Rsum l b ->
  (KL l a b = 0 <-> forall x, In x l -> a x = b x).
Proof.
  intros A l a b H Hs. split.
  - intros E x Hx. apply kl_gap_zero; [apply H, Hx|].
    assert (Z : kl (a x) (b x) - (a x - b x) = 0).
    { apply (Rsum_nonneg_zero l (fun x => kl (a x) (b x) - (a x - b x))); [| |exact Hx].
      - intros y Hy. assert (G := kl_gap (a y) (b y) (H y Hy)). lra.
      - rewrite Rsum_minus, Rsum_minus. unfold KL, Div in E. rewrite E. lra. }
    lra.
  - intros Eq. apply Rsum_zero. intros x Hx. rewrite <- (Eq x Hx).
    apply kl_same, (H x Hx).
Qed.

Lemma TV_nonneg : forall {A : Type} (l : list A) (a b : A -> R), 0 <= TV l a b.
Proof.
  intros. apply Rsum_nonneg. intros x _. unfold tv. assert (H := Rabs_pos (a x - b x)). lra.
Qed.

Lemma TV_zero_iff : forall {A : Type} (l : list A) (a b : A -> R),
  TV l a b = 0 <-> forall x, In x l -> a x = b x.
Proof.
  intros A l a b. split.
  - intros E x Hx. assert (Z : tv (a x) (b x) = 0).
    { apply (Rsum_nonneg_zero l (fun x => tv (a x) (b x))); [|exact E|exact Hx].
      intros y _. unfold tv. assert (H := Rabs_pos (a y - b y)). lra. }
    unfold tv in Z. destruct (Req_dec (a x - b x) 0) as [D|D]; [lra|].
    apply Rabs_pos_lt in D. lra.
  - intros Eq. apply Rsum_zero. intros x Hx. unfold tv. rewrite (Eq x Hx).
    rewrite Rminus_diag_eq, Rabs_R0 by reflexivity. lra.
Qed.

(** ** The four integrands are subadditive *)

(** The log-sum inequality. *)
Lemma kl_subadditive : subadditive dominated_cone kl.
Proof.
  split; [apply kl_0_l|]. intros a b a' b' H H'.
  destruct (Req_dec (a + a') 0) as [E|E].
  { assert (a = 0 /\ a' = 0) as [-> ->] by (destruct H, H'; lra).
    rewrite Rplus_0_l, !kl_0_l. lra. }
  assert (Hs : dominated_cone (a + a') (b + b')) by (apply dominated_cone_cone; assumption).
  assert (Hb := dominated_cone_pos _ _ Hs E).
  set (c := (a + a') / (b + b')).
  assert (Hc : 0 < c) by (apply Rdiv_lt_0_compat; destruct Hs; lra).
  assert (Scale : forall x y, dominated_cone x y -> x - c * y <= kl x y - x * ln c).
  { intros x y Hxy. assert (G : dominated_cone x (c * y)).
    { destruct Hxy as [Hx [Hy Z]]. split; [exact Hx | split; [apply Rmult_le_pos; lra|]].
      intros F. apply Rmult_integral in F. apply Z. lra. }
    assert (K := kl_gap x (c * y) G).
    destruct (Req_dec x 0) as [->|N]; [rewrite kl_0_l in *; lra|].
    assert (Hy := dominated_cone_pos x y Hxy N). destruct Hxy as [Hx _].
    rewrite kl_split in K by (try intros; try apply Rmult_lt_0_compat; lra).
    rewrite ln_mult in K by lra.
    rewrite (kl_split x y) by (intros; lra). lra. }
  assert (S1 := Scale a b H). assert (S2 := Scale a' b' H').
  assert (K : kl (a + a') (b + b') = (a + a') * ln c) by reflexivity.
  assert (Sum : c * b + c * b' = a + a') by (unfold c; field; lra).
  rewrite K. lra.
Qed.

Lemma rkl_subadditive : subadditive (fun a b => dominated_cone b a) rkl.
Proof.
  split; [apply kl_0_l|]. intros a b a' b' H H'. apply kl_subadditive; assumption.
Qed.

(** The mixture's total vanishes only where both do. *)
Lemma mixture_cone : forall w a b, 0 < w -> w < 1 -> nonneg_cone a b ->
  dominated_cone a (w * a + (1 - w) * b) /\ dominated_cone b (w * a + (1 - w) * b).
Proof.
  intros w a b Hw Hw1 [Ha Hb].
  assert (0 <= w * a) by (apply Rmult_le_pos; lra).
  assert (0 <= (1 - w) * b) by (apply Rmult_le_pos; lra).
  split; (split; [assumption | split; [lra | intros E]]).
  - assert (Z : w * a = 0) by lra. apply Rmult_integral in Z. lra.
  - assert (Z : (1 - w) * b = 0) by lra. apply Rmult_integral in Z. lra.
Qed.

Lemma js_subadditive : forall w, 0 < w -> w < 1 -> subadditive nonneg_cone (js w).
Proof.
  intros w Hw Hw1. split; [unfold js; rewrite !kl_0_l; lra|].
  intros a b a' b' H H'. unfold js.
  destruct (mixture_cone w a b Hw Hw1 H) as [A1 B1].
  destruct (mixture_cone w a' b' Hw Hw1 H') as [A2 B2].
  replace (w * (a + a') + (1 - w) * (b + b'))
    with ((w * a + (1 - w) * b) + (w * a' + (1 - w) * b')) by ring.
  assert (KA := proj2 kl_subadditive _ _ _ _ A1 A2).
  assert (KB := proj2 kl_subadditive _ _ _ _ B1 B2).
  apply Rmult_le_compat_l with (r := w) in KA; [|lra].
  apply Rmult_le_compat_l with (r := 1 - w) in KB; [|lra]. lra.
Qed.

Lemma tv_subadditive : subadditive nonneg_cone tv.
Proof.
  split; [unfold tv; rewrite Rminus_diag_eq, Rabs_R0 by reflexivity; lra|].
  intros a b a' b' _ _. unfold tv.
  replace (a + a' - (b + b')) with ((a - b) + (a' - b')) by ring.
  assert (H := Rabs_triang (a - b) (a' - b')). lra.
Qed.

(** ** The generators of Eqn. 4 *)

Definition f_kl (t : R) : R := t * ln t.
Definition f_rkl (t : R) : R := - ln t.
Definition f_tv (t : R) : R := / 2 * Rabs (t - 1).
Definition f_js (w t : R) : R := js w t 1.

(** KL is the f-divergence of t log t. *)
Theorem kl_generator : forall L a b, dominated_cone a b -> kl a b = perspective f_kl L a b.
Proof.
  intros L a b [Ha [Hb Z]]. destruct (Req_dec b 0) as [E|E].
  - rewrite (Z E), E, kl_0_l, perspective_0. lra.
  - rewrite perspective_pos by exact E. unfold kl, f_kl. field. exact E.
Qed.

(** Reverse KL is the f-divergence of -log t. *)
Theorem rkl_generator : forall L a b, positive_cone a b -> rkl a b = perspective f_rkl L a b.
Proof.
  intros L a b [[Ha Hb]|[-> ->]].
  - rewrite perspective_pos by lra. unfold rkl, f_rkl, kl.
    rewrite !ln_div by assumption. ring.
  - rewrite perspective_0. unfold rkl. rewrite kl_0_l. lra.
Qed.

(** JS is the f-divergence of w t log(t/(wt+1-w)) + (1-w) log(1/(wt+1-w)); at
    w = 1/2 half of the paper's -(t+1) log((t+1)/2) + t log t, because its Eqn. 8
    is half of that generator's divergence. *)
Theorem js_generator : forall w a b, 0 < w -> w < 1 -> nonneg_cone a b ->
  js w a b = perspective (f_js w) (- (w * ln w)) a b.
Proof.
  intros w a b Hw Hw1 [Ha Hb]. destruct (Req_dec b 0) as [->|E].
  - rewrite perspective_0. unfold js.
    replace (w * a + (1 - w) * 0) with (w * a) by ring. rewrite kl_0_l, Rmult_0_r, Rplus_0_r.
    unfold kl. destruct (Req_dec a 0) as [->|N]; [lra|].
    replace (a / (w * a)) with (/ w) by (field; lra). rewrite ln_Rinv by exact Hw. ring.
  - rewrite perspective_pos by exact E. unfold f_js, js.
    assert (0 <= w * a) by (apply Rmult_le_pos; lra).
    assert (0 < (1 - w) * b) by (apply Rmult_lt_0_compat; lra).
    unfold kl.
    replace (a / b / (w * (a / b) + (1 - w) * 1)) with (a / (w * a + (1 - w) * b))
      by (field; split; lra).
    replace (1 / (w * (a / b) + (1 - w) * 1)) with (b / (w * a + (1 - w) * b))
      by (field; split; lra).
    field. lra.
Qed.

Theorem js_generator_paper : forall t, 0 < t ->
  f_js (/ 2) t = / 2 * (- (t + 1) * ln ((t + 1) / 2) + t * ln t).
Proof.
  intros t Ht. unfold f_js, js.
  replace (/ 2 * t + (1 - / 2) * 1) with ((t + 1) / 2) by field.
  unfold kl. rewrite (ln_div t), (ln_div 1), ln_1 by lra. field.
Qed.

(** TVD is the f-divergence of |t - 1| / 2. *)
Theorem tv_generator : forall a b, nonneg_cone a b -> tv a b = perspective f_tv (/ 2) a b.
Proof.
  intros a b [Ha Hb]. destruct (Req_dec b 0) as [->|E].
  - rewrite perspective_0. unfold tv. rewrite Rminus_0_r, Rabs_right by lra. ring.
  - rewrite perspective_pos by exact E. unfold tv, f_tv.
    replace (a - b) with (b * (a / b - 1)) by (field; exact E).
    rewrite Rabs_mult, (Rabs_right b) by lra. ring.
Qed.

(** A generator t |-> phi t 1 inherits convexity from a subadditive, homogeneous
    phi. *)
Lemma generator_convex : forall (C : R -> R -> Prop) phi, subadditive C phi ->
  (forall c a b, 0 <= c -> C a b -> C (c * a) (c * b) /\ phi (c * a) (c * b) = c * phi a b) ->
  convex_on (fun t => C t 1) (fun t => phi t 1).
Proof.
  intros C phi [_ Hsub] Hhom x y t Cx Cy Ht.
  destruct (Hhom t x 1) as [C1 E1]; [lra | exact Cx|].
  destruct (Hhom (1 - t) y 1) as [C2 E2]; [lra | exact Cy|].
  rewrite <- E1, <- E2. replace 1 with (t * 1 + (1 - t) * 1) at 2 by ring.
  apply Hsub; assumption.
Qed.

Lemma kl_scale : forall c a b, 0 <= c -> (a <> 0 -> b <> 0) -> kl (c * a) (c * b) = c * kl a b.
Proof.
  intros c a b Hc H. unfold kl. destruct (Req_dec c 0) as [->|E]; [lra|].
  destruct (Req_dec a 0) as [->|N]; [ring|].
  replace (c * a / (c * b)) with (a / b) by (field; split; [apply H, N | exact E]). ring.
Qed.

Lemma dominated_cone_scale : forall c a b, 0 <= c -> dominated_cone a b ->
  dominated_cone (c * a) (c * b).
Proof.
  intros c a b Hc [Ha [Hb Z]]. split; [|split]; try (apply Rmult_le_pos; assumption).
  intros E. apply Rmult_integral in E. destruct E as [->|E]; [lra | rewrite (Z E); lra].
Qed.

Lemma convex_on_ext : forall (D D' : R -> Prop) f g,
  (forall t, D' t -> D t) -> (forall t, D t -> f t = g t) ->
  (forall x y t, D' x -> D' y -> 0 <= t <= 1 -> D' (t * x + (1 - t) * y)) ->
  convex_on D f -> convex_on D' g.
Proof.
  intros D D' f g Hsub Heq Hc Hf x y t Dx Dy Ht. rewrite <- !Heq by auto.
  apply Hf; auto.
Qed.

Lemma mix_nonneg : forall x y t, 0 <= x -> 0 <= y -> 0 <= t <= 1 -> 0 <= t * x + (1 - t) * y.
Proof. intros. apply Rplus_le_le_0_compat; apply Rmult_le_pos; lra. Qed.

Lemma mix_pos : forall x y t, 0 < x -> 0 < y -> 0 <= t <= 1 -> 0 < t * x + (1 - t) * y.
Proof.
  intros x y t Hx Hy Ht. destruct (Req_dec t 0) as [->|E]; [lra|].
  assert (0 < t * x) by (apply Rmult_lt_0_compat; lra).
  assert (0 <= (1 - t) * y) by (apply Rmult_le_pos; lra). lra.
Qed.

(** The generators of KL, RKL, JS and TVD are convex and vanish at 1: the table
    below Eqn. 4. *)
Theorem generators_convex :
  (convex_on (fun t => 0 <= t) f_kl /\ f_kl 1 = 0) /\
  (convex_on (fun t => 0 < t) f_rkl /\ f_rkl 1 = 0) /\
  (forall w, 0 < w -> w < 1 -> convex_on (fun t => 0 <= t) (f_js w) /\ f_js w 1 = 0) /\
  (convex_on (fun t => 0 <= t) f_tv /\ f_tv 1 = 0).
Proof.
  split; [|split; [|split]].
  - split; [|unfold f_kl; rewrite ln_1; ring].
    eapply convex_on_ext with (D := fun t => dominated_cone t 1) (f := fun t => kl t 1).
    + intros t Ht. unfold dominated_cone. lra.
    + intros t _. unfold kl, f_kl. replace (t / 1) with t by field. reflexivity.
    + intros; apply mix_nonneg; assumption.
    + apply generator_convex; [exact kl_subadditive|]. intros c a b Hc H.
      split; [apply dominated_cone_scale; assumption|].
      apply kl_scale; [exact Hc|]. intros N. assert (0 < b) by (eapply dominated_cone_pos; eauto). lra.
  - split; [|unfold f_rkl; rewrite ln_1; ring].
    eapply convex_on_ext with (D := fun t => dominated_cone 1 t) (f := fun t => rkl t 1).
    + intros t Ht. unfold dominated_cone. lra.
    + intros t Ht. assert (0 < t) by (apply (dominated_cone_pos 1 t Ht); lra).
      unfold rkl, kl, f_rkl. rewrite ln_div, ln_1 by lra. ring.
    + intros; apply mix_pos; assumption.
    + apply (generator_convex (fun a b => dominated_cone b a)); [exact rkl_subadditive|].
      intros c a b Hc H.
      split; [apply dominated_cone_scale; assumption|].
      apply kl_scale; [exact Hc|]. intros N. assert (0 < a) by (eapply dominated_cone_pos; eauto). lra.
  - intros w Hw Hw1. split.
    + eapply convex_on_ext with (D := fun t => nonneg_cone t 1) (f := fun t => js w t 1).
      * intros t Ht. unfold nonneg_cone. lra.
      * reflexivity.
      * intros; apply mix_nonneg; assumption.
      * apply generator_convex; [apply js_subadditive; assumption|].
        intros c a b Hc [Ha Hb]. split; [split; apply Rmult_le_pos; assumption|].
        destruct (mixture_cone w a b Hw Hw1 (conj Ha Hb)) as [MA MB].
        unfold js. replace (w * (c * a) + (1 - w) * (c * b)) with (c * (w * a + (1 - w) * b)) by ring.
        rewrite !kl_scale; [ring | exact Hc | | exact Hc |]; intros N.
        -- assert (0 < w * a + (1 - w) * b) by (apply (dominated_cone_pos b); assumption). lra.
        -- assert (0 < w * a + (1 - w) * b) by (apply (dominated_cone_pos a); assumption). lra.
    + unfold f_js, js. replace (w * 1 + (1 - w) * 1) with 1 by ring.
      rewrite kl_same by lra. ring.
  - split; [|unfold f_tv; rewrite Rminus_diag_eq, Rabs_R0 by reflexivity; ring].
    intros x y t _ _ Ht. unfold f_tv.
    replace (t * x + (1 - t) * y - 1) with (t * (x - 1) + (1 - t) * (y - 1)) by ring.
    eapply Rle_trans; [apply Rmult_le_compat_l; [lra | apply Rabs_triang]|].
    rewrite !Rabs_mult, (Rabs_right t), (Rabs_right (1 - t)) by lra. lra.
Qed.

(** ** Two more generators *)

Definition f_chi2 (t : R) : R := (t - 1) * (t - 1).
Definition f_hellinger (t : R) : R := / 2 * ((sqrt t - 1) * (sqrt t - 1)).

Theorem chi2_convex : convex_on (fun t => 0 <= t) f_chi2 /\ f_chi2 1 = 0.
Proof.
  split; [|unfold f_chi2; ring]. intros x y t _ _ Ht. unfold f_chi2.
  assert (0 <= t * (1 - t) * ((x - y) * (x - y))).
  { apply Rmult_le_pos; [apply Rmult_le_pos; lra | apply Rle_0_sqr]. }
  lra.
Qed.

Lemma sqrt_concave : forall x y t, 0 <= x -> 0 <= y -> 0 <= t <= 1 ->
  t * sqrt x + (1 - t) * sqrt y <= sqrt (t * x + (1 - t) * y).
Proof.
  intros x y t Hx Hy Ht. assert (Sx := sqrt_pos x). assert (Sy := sqrt_pos y).
  assert (Ex := sqrt_sqrt x Hx). assert (Ey := sqrt_sqrt y Hy).
  rewrite <- (sqrt_square (t * sqrt x + (1 - t) * sqrt y)) by (apply mix_nonneg; assumption).
  apply sqrt_le_1_alt.
  assert (0 <= t * (1 - t) * ((sqrt x - sqrt y) * (sqrt x - sqrt y))).
  { apply Rmult_le_pos; [apply Rmult_le_pos; lra | apply Rle_0_sqr]. }
  rewrite <- Ex at 3. rewrite <- Ey at 3. lra.
Qed.

(** Squared Hellinger: convex on [0, oo), with slopes at most 1/2. *)
Theorem hellinger_convex :
  convex_on (fun t => 0 <= t) f_hellinger /\
  (forall x y, 0 <= x -> x <= y -> f_hellinger y - f_hellinger x <= / 2 * (y - x)) /\
  f_hellinger 1 = 0.
Proof.
  assert (E : forall t, 0 <= t -> f_hellinger t = / 2 * (t + 1) - sqrt t).
  { intros t Ht. unfold f_hellinger. assert (S := sqrt_sqrt t Ht). lra. }
  split; [|split].
  - intros x y t Hx Hy Ht. rewrite !E by (try apply mix_nonneg; assumption).
    assert (C := sqrt_concave x y t Hx Hy Ht). lra.
  - intros x y Hx Hxy. rewrite !E by lra.
    assert (C := sqrt_le_1_alt x y Hxy). lra.
  - rewrite E by lra. rewrite sqrt_1. lra.
Qed.
