(** * ZeroLoss: a step-wise loss of zero means that the student is the teacher

    Wen et al. (2023) note that their losses vanish iff the student equals the
    teacher.  Precisely: for every objective, a step-wise value of zero is the same
    as equal conditionals on every reachable prefix, and the same as equal laws of
    the sequences of T tokens.

    Main results
      [same_conditionals_iff_same_law]  p = q on reachable prefixes iff P = Q
      [zero_loss_iff]          for any step-wise loss that is definite where both
                               models can be and zero where neither can
      [zero_loss_kl], [zero_loss_rkl]      Eqns. 21, 22
      [zero_loss_js]           JS with any middle: Eqns. 11, 12 and all between
      [zero_loss_tvd]          any weight of the total variation that is positive
                               where both models can be: Eqns. 25, 36, 37, overlap
      [zero_loss_tvd_bounds]   those four and the product bound, listed *)

Require Import Reals List Lra Lia.
Require Import FDistill.Sequences FDistill.Divergences FDistill.ChainRule.
Require Import FDistill.JensenShannon FDistill.Middle FDistill.TotalVariation.
Import ListNotations.
Open Scope R_scope.

Section ZeroLoss.
Context {token : Type} (V : list token).
Variables (p q : model token).
Hypothesis p_model : is_model V p.
Hypothesis q_model : is_model V q.

Lemma same_law_start : same_law V 0 p q.
Proof. intros y [<-|[]]. reflexivity. Qed.

Lemma same_law_step : forall t s, same_law V (S t) p q -> In s (sequences V t) ->
  prob p s <> 0 -> same_step V p q s.
Proof.
  intros t s H Hs N v Hv.
  assert (E : prob p (v :: s) = prob q (v :: s)).
  { apply H. simpl. apply in_flat_map. exists s. split; [exact Hs|].
    apply in_map_iff. exists v. auto. }
  simpl in E. rewrite <- (same_law_prefix V p q t p_model q_model H s Hs) in E.
  apply Rmult_eq_reg_r with (prob p s); assumption.
Qed.

(** Equal conditionals on reachable prefixes iff equal laws. *)
Theorem same_conditionals_iff_same_law : forall T,
  (forall t s, (t < T)%nat -> In s (sequences V t) -> prob p s <> 0 -> same_step V p q s)
  <-> same_law V T p q.
Proof.
  intros T. split.
  - intros H. induction T as [|T IH]; [apply same_law_start|].
    apply same_law_extend.
    + apply IH. intros t s Ht. apply H. lia.
    + intros s Hs N. apply (H T s); [lia | assumption | assumption].
  - intros H t s Ht Hs N. apply same_law_step with t; [|exact Hs|exact N].
    apply same_law_shorter with T; try assumption.
Qed.

Theorem zero_loss_iff : forall loss : list token -> R,
  (forall s, incl s V -> 0 <= loss s) ->
  (forall s, incl s V -> prob p s <> 0 -> prob q s <> 0 -> (loss s = 0 <-> same_step V p q s)) ->
  (forall s, incl s V -> prob p s = 0 -> prob q s = 0 -> loss s = 0) ->
  forall T, SumPrefixes V T loss = 0 <-> same_law V T p q.
Proof.
  intros loss L0 L1 L2 T. split.
  - intros Z.
    assert (Each := SumPrefixes_zero_terms V T loss L0 Z).
    assert (Upto : forall t, (t <= T)%nat -> same_law V t p q).
    { induction t as [|t IH]; intros Ht; [apply same_law_start|].
      assert (H : same_law V t p q) by (apply IH; lia).
      apply same_law_extend; [exact H|]. intros s Hs N.
      apply L1; [apply in_sequences in Hs; apply Hs | exact N | rewrite <- (H s Hs); exact N |].
      apply Each with t; [lia | exact Hs]. }
    apply Upto. lia.
  - intros H. unfold SumPrefixes. rewrite (Steps_ext T _ (fun _ => 0)).
    { rewrite Steps_const. ring. }
    intros t Ht. apply Rsum_zero. intros s Hs.
    assert (Hi : incl s V) by (apply in_sequences in Hs; apply Hs).
    assert (Eq : prob p s = prob q s).
    { apply (same_law_shorter V p q T t p_model q_model); [lia | exact H | exact Hs]. }
    destruct (Req_dec (prob p s) 0) as [E|N].
    + apply L2; [exact Hi | exact E | rewrite <- Eq; exact E].
    + apply L1; [exact Hi | exact N | rewrite <- Eq; exact N |].
      apply (proj2 (same_conditionals_iff_same_law T) H t); assumption.
Qed.

Lemma step_cone : dominated p q -> forall s, prob p s <> 0 ->
  forall v, In v V -> dominated_cone (p s v) (q s v).
Proof.
  intros D s N v _. split; [apply p_model | split; [apply q_model|]].
  intros E. exact (dominated_step p q s v D N E).
Qed.

(** KL: the step-wise loss of Eqn. 21 (teacher prefixes). *)
Theorem zero_loss_kl : dominated p q -> forall T,
  SumPrefixes V T (fun s => prob p s * KL V (p s) (q s)) = 0 <-> same_law V T p q.
Proof.
  intros D. assert (Sums : forall s, Rsum V (p s) = Rsum V (q s)).
  { intros s. rewrite (proj2 p_model), (proj2 q_model). reflexivity. }
  apply zero_loss_iff.
  - intros s _. destruct (Req_dec (prob p s) 0) as [E|N]; [rewrite E; lra|].
    apply Rmult_le_pos; [apply (prob_nonneg V), p_model|].
    apply gibbs; [apply step_cone; assumption | rewrite Sums; lra].
  - intros s _ N _. assert (K := KL_zero_iff V (p s) (q s) (step_cone D s N) (Sums s)). split.
    + intros E. apply Rmult_integral in E.
      destruct E as [E|E]; [contradiction | exact (proj1 K E)].
    + intros E. rewrite (proj2 K E). ring.
  - intros s _ E _. rewrite E. ring.
Qed.

(** JS with any admissible middle: both halves vanish iff the laws agree.  Taking
    the prior weight gives Eqn. 11, the posterior Eqn. 12. *)
Theorem zero_loss_js : forall pi w', 0 < pi -> pi < 1 -> admissible p q w' ->
  forall T, middle_value pi V T p q w' = 0 <-> same_law V T p q.
Proof.
  intros pi w' H0 H1 Hw.
  set (m' := blend w' p q).
  assert (m'_is : is_model V m') by (apply (m'_model V p q p_model q_model w' Hw)).
  assert (CP : forall s, prob p s <> 0 -> forall v, In v V -> dominated_cone (p s v) (m' s v)).
  { intros s N v _. split; [apply p_model | split; [apply m'_is|]]. intros E.
    destruct (m'_zero V p q p_model q_model w' Hw s v E) as [A _].
    apply Rmult_integral in A. tauto. }
  assert (CQ : forall s, prob q s <> 0 -> forall v, In v V -> dominated_cone (q s v) (m' s v)).
  { intros s N v _. split; [apply q_model | split; [apply m'_is|]]. intros E.
    destruct (m'_zero V p q p_model q_model w' Hw s v E) as [_ A].
    apply Rmult_integral in A. tauto. }
  assert (SP : forall s, Rsum V (p s) = Rsum V (m' s)).
  { intros s. rewrite (proj2 p_model), (proj2 m'_is). reflexivity. }
  assert (SQ : forall s, Rsum V (q s) = Rsum V (m' s)).
  { intros s. rewrite (proj2 q_model), (proj2 m'_is). reflexivity. }
  assert (NP : forall s, 0 <= pi * prob p s * KL V (p s) (m' s)).
  { intros s. destruct (Req_dec (prob p s) 0) as [E|N]; [rewrite E; lra|].
    apply Rmult_le_pos; [apply Rmult_le_pos; [lra | apply (prob_nonneg V), p_model]|].
    apply gibbs; [apply CP, N | rewrite SP; lra]. }
  assert (NQ : forall s, 0 <= (1 - pi) * prob q s * KL V (q s) (m' s)).
  { intros s. destruct (Req_dec (prob q s) 0) as [E|N]; [rewrite E; lra|].
    apply Rmult_le_pos; [apply Rmult_le_pos; [lra | apply (prob_nonneg V), q_model]|].
    apply gibbs; [apply CQ, N | rewrite SQ; lra]. }
  apply zero_loss_iff; fold m'.
  - intros s _. assert (A := NP s). assert (B := NQ s). lra.
  - intros s _ Np Nq.
    assert (KP := KL_zero_iff V (p s) (m' s) (CP s Np) (SP s)).
    assert (KQ := KL_zero_iff V (q s) (m' s) (CQ s Nq) (SQ s)).
    split.
    + intros E. assert (A := NP s). assert (B := NQ s).
      assert (EP : pi * prob p s * KL V (p s) (m' s) = 0) by lra.
      assert (EQ : (1 - pi) * prob q s * KL V (q s) (m' s) = 0) by lra.
      apply Rmult_integral in EP. apply Rmult_integral in EQ.
      destruct EP as [EP|EP]; [apply Rmult_integral in EP; lra|].
      destruct EQ as [EQ|EQ]; [apply Rmult_integral in EQ; lra|].
      intros v Hv. rewrite (proj1 KP EP v Hv), (proj1 KQ EQ v Hv). reflexivity.
    + intros E.
      assert (EP : KL V (p s) (m' s) = 0).
      { apply (proj2 KP). intros v Hv. unfold m', blend. rewrite (E v Hv). ring. }
      assert (EQ : KL V (q s) (m' s) = 0).
      { apply (proj2 KQ). intros v Hv. unfold m', blend. rewrite (E v Hv). ring. }
      rewrite EP, EQ. ring.
  - intros s _ Ep Eq. rewrite Ep, Eq. ring.
Qed.

(** Total variation with any weight that is positive where both models can be and
    zero where neither can. *)
Theorem zero_loss_tvd : forall a : list token -> R,
  (forall s, incl s V -> 0 <= a s) ->
  (forall s, incl s V -> prob p s <> 0 -> prob q s <> 0 -> a s <> 0) ->
  (forall s, incl s V -> prob p s = 0 -> prob q s = 0 -> a s = 0) ->
  forall T, weighted_tv V T p q a = 0 <-> same_law V T p q.
Proof.
  intros a A0 A1 A2. apply zero_loss_iff.
  - intros s Hs. apply Rmult_le_pos; [apply A0, Hs | apply TV_nonneg].
  - intros s Hs Np Nq. assert (K := TV_zero_iff V (p s) (q s)). split.
    + intros E. apply Rmult_integral in E. destruct E as [E|E]; [|exact (proj1 K E)].
      exfalso. exact (A1 s Hs Np Nq E).
    + intros E. rewrite (proj2 K E). ring.
  - intros s Hs Ep Eq. rewrite (A2 s Hs Ep Eq). ring.
Qed.

(** Every bound of TVD vanishes iff the laws agree. *)
Theorem zero_loss_tvd_bounds : forall T,
  (weighted_tv V T p q (prob p) = 0 <-> same_law V T p q) /\
  (weighted_tv V T p q (prob q) = 0 <-> same_law V T p q) /\
  (weighted_tv V T p q (fun s => / 2 * (prob p s + prob q s)) = 0 <-> same_law V T p q) /\
  (weighted_tv V T p q (overlap p q) = 0 <-> same_law V T p q) /\
  (weighted_tv V T p q (kappa p q) = 0 <-> same_law V T p q) /\
  (tvd V T p q = 0 <-> same_law V T p q).
Proof.
  intros T.
  assert (P0 : forall s, 0 <= prob p s) by (intros; apply (prob_nonneg V), p_model).
  assert (Q0 : forall s, 0 <= prob q s) by (intros; apply (prob_nonneg V), q_model).
  assert (TVD : tvd V T p q = 0 <-> same_law V T p q) by apply TV_zero_iff.
  assert (OV : weighted_tv V T p q (overlap p q) = 0 <-> same_law V T p q).
  { apply zero_loss_tvd; unfold overlap.
    - intros s _. apply Rmin_glb; auto.
    - intros s _ Np Nq. assert (0 < Rmin (prob p s) (prob q s)); [|lra].
      assert (A := P0 s). assert (B := Q0 s). apply Rmin_glb_lt; lra.
    - intros s _ Ep Eq. rewrite Ep, Eq. apply Rmin_left. lra. }
  split; [|split; [|split; [|split; [exact OV | split; [|exact TVD]]]]].
  - apply zero_loss_tvd; auto.
  - apply zero_loss_tvd; auto.
  - apply zero_loss_tvd.
    + intros s _. assert (A := P0 s). assert (B := Q0 s). lra.
    + intros s _ Np Nq. assert (A := P0 s). assert (B := Q0 s). lra.
    + intros s _ Ep Eq. rewrite Ep, Eq. lra.
  - destruct (tvd_order V T p q p_model q_model) as [A [B _]]. split; intros H.
    + apply (proj1 TVD). assert (C := TV_nonneg (sequences V T) (prob p) (prob q)).
      unfold tvd in *. lra.
    + apply (proj2 OV) in H. assert (C : 0 <= weighted_tv V T p q (kappa p q)).
      { apply SumPrefixes_nonneg. intros s _.
        apply Rmult_le_pos; [apply (kappa_nonneg V); assumption | apply TV_nonneg]. }
      lra.
Qed.

End ZeroLoss.

(** RKL: the step-wise loss of Eqn. 22 (student prefixes). *)
Theorem zero_loss_rkl : forall {token : Type} (V : list token) (p q : model token),
  is_model V p -> is_model V q -> dominated q p -> forall T,
  SumPrefixes V T (fun s => prob q s * KL V (q s) (p s)) = 0 <-> same_law V T p q.
Proof.
  intros token V p q Hp Hq D T. rewrite (zero_loss_kl V q p Hq Hp D T).
  split; intros H y Hy; symmetry; apply H, Hy.
Qed.
