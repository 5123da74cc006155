(** * JensenShannon: the exact decomposition of JS

    Wen et al. (2023), Eqn. 8 with a general prior weight pi of the teacher (1/2 in
    the paper), Eqn. 12 (the middle distribution's conditional) and Eqn. 14 (the
    exact decomposition of JS, Theorem 1a).

    Definitions
      [mixture pi p q s]       M(s) = pi P(s) + (1-pi) Q(s)
      [posterior pi p q s]     w(s) = pi P(s) / M(s): given the prefix, the
                               probability that the teacher wrote it
      [blend w p q]            the conditionals w(s) p(v|s) + (1-w(s)) q(v|s)
      [middle pi p q]          [blend] at the posterior weight
      [entropy2 pi]            H(pi) = -pi log pi - (1-pi) log(1-pi)
      [sigmoid], [logit]

    Main results
      [middle_conditional]     M(sv)/M(s) is the posterior-weighted mixture (Eqn. 12)
      [middle_law]             the law of that model is M
      [posterior_sigmoid]      w(s) = sigmoid(logit pi + log P(s)/Q(s))
      [js_two_halves]          JS = pi KL(P||M) + (1-pi) KL(Q||M) (Eqn. 8)
      [js_decomposition]       the exact decomposition (Eqn. 14)
      [js_decomposition_expectation]  and as expectations over teacher and student
                               samples
      [js_balance]             JS = sum_s M(s) JS_w(s)(p(.|s), q(.|s))
      [js_bounds]              0 <= JS <= H(pi)
      [entropy_le_ln2]         H(pi) <= log 2 *)

Require Import Reals List Lra Lia.
Require Import FDistill.Sequences FDistill.Divergences FDistill.ChainRule.
Import ListNotations.
Open Scope R_scope.

Definition mixture (pi : R) {token : Type} (p q : model token) (s : list token) : R :=
  pi * prob p s + (1 - pi) * prob q s.

Definition posterior (pi : R) {token : Type} (p q : model token) (s : list token) : R :=
  pi * prob p s / mixture pi p q s.

Definition blend {token : Type} (w : list token -> R) (p q : model token) : model token :=
  fun s v => w s * p s v + (1 - w s) * q s v.

Definition middle (pi : R) {token : Type} (p q : model token) : model token :=
  blend (posterior pi p q) p q.

Definition entropy2 (pi : R) : R := - (pi * ln pi) - (1 - pi) * ln (1 - pi).

Definition sigmoid (x : R) : R := / (1 + exp (- x)).
Definition logit (pi : R) : R := ln (pi / (1 - pi)).

Lemma sigmoid_bounds : forall x, 0 < sigmoid x < 1.
Proof.
  intros x. unfold sigmoid. assert (H := exp_pos (- x)). split.
  - apply Rinv_0_lt_compat. lra.
  - rewrite <- Rinv_1. apply Rinv_lt_contravar; lra.
Qed.

Lemma sigmoid_increasing : forall x y, x <= y -> sigmoid x <= sigmoid y.
Proof.
  intros x y H. unfold sigmoid. assert (Hy := exp_pos (- y)).
  apply Rinv_le_contravar; [lra|]. apply Rplus_le_compat_l.
  destruct H as [H| ->]; [left; apply exp_increasing; lra | lra].
Qed.

(** H(pi) <= log 2: Gibbs' inequality against the fair coin. *)
Theorem entropy_le_ln2 : forall pi, 0 < pi -> pi < 1 -> entropy2 pi <= ln 2.
Proof.
  intros pi H0 H1. unfold entropy2.
  assert (G := gibbs [true; false] (fun b : bool => if b then pi else 1 - pi) (fun _ => / 2)).
  unfold KL, Div, kl in G. simpl in G.
  rewrite !ln_div, ln_Rinv in G by lra.
  assert (0 <= pi * (ln pi - - ln 2) + ((1 - pi) * (ln (1 - pi) - - ln 2) + 0)).
  { apply G; [|lra]. intros [|] _; unfold dominated_cone; lra. }
  lra.
Qed.

Section JensenShannon.
Context {token : Type} (V : list token) (pi : R).
Hypothesis pi_pos : 0 < pi.
Hypothesis pi_lt_1 : pi < 1.
Variables (p q : model token).
Hypothesis p_model : is_model V p.
Hypothesis q_model : is_model V q.

Notation M := (mixture pi p q).
Notation w := (posterior pi p q).
Notation m := (middle pi p q).

Lemma P_nonneg : forall s, 0 <= prob p s.
Proof. intros s. apply (prob_nonneg V), p_model. Qed.

Lemma Q_nonneg : forall s, 0 <= prob q s.
Proof. intros s. apply (prob_nonneg V), q_model. Qed.

Lemma parts_nonneg : forall s, 0 <= pi * prob p s /\ 0 <= (1 - pi) * prob q s.
Proof.
  intros s. assert (HP := P_nonneg s). assert (HQ := Q_nonneg s).
  split; apply Rmult_le_pos; lra.
Qed.

Lemma M_nonneg : forall s, 0 <= M s.
Proof. intros s. unfold mixture. destruct (parts_nonneg s). lra. Qed.

(** The mixture vanishes only where both models do. *)
Lemma M_zero : forall s, M s = 0 -> prob p s = 0 /\ prob q s = 0.
Proof.
  intros s E. destruct (parts_nonneg s). unfold mixture in E.
  assert (A : pi * prob p s = 0) by lra. assert (B : (1 - pi) * prob q s = 0) by lra.
  apply Rmult_integral in A. apply Rmult_integral in B. split; lra.
Qed.

Lemma posterior_teacher : forall s, M s * w s = pi * prob p s.
Proof.
  intros s. unfold posterior. destruct (Req_dec (M s) 0) as [E|E].
  - destruct (M_zero s E) as [-> _]. rewrite E. ring.
  - field. exact E.
Qed.

Lemma posterior_student : forall s, M s * (1 - w s) = (1 - pi) * prob q s.
Proof.
  intros s. rewrite Rmult_minus_distr_l, posterior_teacher. unfold mixture. ring.
Qed.

Lemma posterior_bounds : forall s, 0 <= w s <= 1.
Proof.
  intros s. destruct (parts_nonneg s) as [A B]. assert (HM := M_nonneg s).
  unfold posterior. destruct (Req_dec (M s) 0) as [E|E].
  - destruct (M_zero s E) as [-> _]. rewrite E. unfold Rdiv. rewrite Rmult_0_r, Rmult_0_l. lra.
  - split; [apply ratio_nonneg; lra|].
    apply Rmult_le_reg_r with (M s); [lra|].
    replace (pi * prob p s / M s * M s) with (pi * prob p s) by (field; exact E).
    unfold mixture in *. lra.
Qed.

Lemma blend_model : forall w', (forall s, 0 <= w' s <= 1) -> is_model V (blend w' p q).
Proof.
  intros w' Hw. unfold is_model, blend. destruct p_model as [Hp Np]. destruct q_model as [Hq Nq]. split.
  - intros s v. apply mix_nonneg; auto.
  - intros s. rewrite Rsum_plus, !Rsum_scal, Np, Nq. ring.
Qed.

Lemma middle_model : is_model V m.
Proof. apply blend_model, posterior_bounds. Qed.

(** Eqn. 12: the conditional of the middle distribution, M(sv)/M(s), is the mixture
    of the models' conditionals with the posterior weight (not, as in Eqn. 11,
    with the prior weight). *)
Theorem middle_conditional : forall s v, M s <> 0 -> M (v :: s) / M s = m s v.
Proof.
  intros s v E. unfold middle, blend, posterior, mixture in *. simpl. field. exact E.
Qed.

(** Hence the law of the model m is M on every prefix. *)
Theorem middle_law : forall s, prob m s = M s.
Proof.
  induction s as [|v s IH]; [unfold mixture; simpl; ring|].
  simpl prob at 1. rewrite IH. destruct (Req_dec (M s) 0) as [E|E].
  - destruct (M_zero s E) as [A B]. rewrite E. unfold mixture. simpl. rewrite A, B. ring.
  - rewrite <- middle_conditional by exact E. field. exact E.
Qed.

(** No probabilities of steps need storing: the weight is a sigmoid of the
    accumulated log-ratio. *)
Theorem posterior_sigmoid : forall s, 0 < prob p s -> 0 < prob q s ->
  w s = sigmoid (logit pi + ln (prob p s / prob q s)).
Proof.
  intros s HP HQ. unfold sigmoid, logit, posterior, mixture.
  rewrite <- ln_mult by (apply Rdiv_lt_0_compat; lra).
  rewrite <- ln_Rinv, exp_ln.
  - field. assert (0 < pi * prob p s) by (apply Rmult_lt_0_compat; lra).
    assert (0 < (1 - pi) * prob q s) by (apply Rmult_lt_0_compat; lra).
    repeat split; lra.
  - apply Rinv_0_lt_compat, Rmult_lt_0_compat; apply Rdiv_lt_0_compat; lra.
  - apply Rmult_lt_0_compat; apply Rdiv_lt_0_compat; lra.
Qed.

Lemma teacher_dominated : dominated p m.
Proof. intros s E. rewrite middle_law in E. apply M_zero, E. Qed.

Lemma student_dominated : dominated q m.
Proof. intros s E. rewrite middle_law in E. apply M_zero, E. Qed.

(** Eqn. 8: two KL halves to the middle distribution. *)
Theorem js_two_halves : forall T,
  JS pi (sequences V T) (prob p) (prob q)
  = pi * KL (sequences V T) (prob p) (prob m) + (1 - pi) * KL (sequences V T) (prob q) (prob m).
Proof.
  intros T. unfold JS, KL, Div, js. rewrite <- !Rsum_scal, <- Rsum_plus.
  apply Rsum_ext. intros y _. rewrite middle_law. reflexivity.
Qed.

(** Eqn. 14 (Theorem 1a): JS decomposes exactly into step-wise terms. *)
Theorem js_decomposition : forall T,
  JS pi (sequences V T) (prob p) (prob q)
  = SumPrefixes V T (fun s => pi * prob p s * KL V (p s) (m s)
                            + (1 - pi) * prob q s * KL V (q s) (m s)).
Proof.
  intros T. rewrite js_two_halves.
  rewrite (kl_chain_rule V T p m p_model middle_model teacher_dominated).
  rewrite (kl_chain_rule V T q m q_model middle_model student_dominated).
  rewrite <- !SumPrefixes_scal, <- SumPrefixes_plus.
  apply SumPrefixes_ext. intros s _. ring.
Qed.

(** The same with expectations: one half over teacher samples y, the other over
    student samples y'. *)
Theorem js_decomposition_expectation : forall T,
  JS pi (sequences V T) (prob p) (prob q)
  = pi * Sum V T (fun y => prob p y * Steps T (fun t => KL V (p (upto T t y)) (m (upto T t y))))
  + (1 - pi) * Sum V T (fun y => prob q y * Steps T (fun t => KL V (q (upto T t y)) (m (upto T t y)))).
Proof.
  intros T. rewrite js_two_halves.
  rewrite (kl_chain_rule_expectation V T p m p_model middle_model teacher_dominated).
  rewrite (kl_chain_rule_expectation V T q m q_model middle_model student_dominated).
  reflexivity.
Qed.

(** Both halves together on one prefix: the word-level JS whose prior is the
    posterior.  JS is the information that the sequence gives about its writer, and
    this is its chain rule. *)
Lemma js_step : forall s,
  M s * JS (w s) V (p s) (q s)
  = pi * prob p s * KL V (p s) (m s) + (1 - pi) * prob q s * KL V (q s) (m s).
Proof.
  intros s. rewrite <- posterior_teacher, <- posterior_student.
  unfold JS, KL, Div, js, middle, blend. rewrite <- !Rsum_scal, <- Rsum_plus.
  apply Rsum_ext. intros v _. ring.
Qed.

Theorem js_balance : forall T,
  JS pi (sequences V T) (prob p) (prob q)
  = SumPrefixes V T (fun s => M s * JS (w s) V (p s) (q s)).
Proof.
  intros T. rewrite js_decomposition. apply SumPrefixes_ext. intros s _. symmetry. apply js_step.
Qed.

(** The KL to a mixture that contains [a] with weight [c] is at most -log c. *)
Lemma kl_to_mixture_le : forall c a x, 0 < c -> 0 <= a -> 0 <= x ->
  kl a (c * a + x) <= a * - ln c.
Proof.
  intros c a x Hc Ha Hx. destruct (Req_dec a 0) as [->|E]; [rewrite kl_0_l; lra|].
  unfold kl. apply Rmult_le_compat_l; [exact Ha|].
  assert (0 < c * a) by (apply Rmult_lt_0_compat; lra).
  rewrite ln_div by lra.
  assert (L : ln (c * a) <= ln (c * a + x)).
  { destruct Hx as [Hx| <-]; [left; apply ln_increasing; lra | rewrite Rplus_0_r; lra]. }
  rewrite ln_mult in L by lra. lra.
Qed.

(** JS of any two normalised families is at most H(pi). *)
Lemma js_le_entropy : forall {A : Type} (l : list A) (a b : A -> R),
  (forall x, In x l -> 0 <= a x /\ 0 <= b x) -> Rsum l a = 1 -> Rsum l b = 1 ->
  JS pi l a b <= entropy2 pi.
Proof.
  intros A l a b H Ha Hb.
  apply Rle_trans with (Rsum l (fun x => pi * (a x * - ln pi) + (1 - pi) * (b x * - ln (1 - pi)))).
  - apply Rsum_le. intros x Hx. destruct (H x Hx) as [A0 B0]. unfold js.
    apply Rplus_le_compat; (apply Rmult_le_compat_l; [lra|]).
    + apply kl_to_mixture_le; [lra | lra | apply Rmult_le_pos; lra].
    + rewrite Rplus_comm. apply kl_to_mixture_le; [lra | lra | apply Rmult_le_pos; lra].
  - rewrite Rsum_plus, !Rsum_scal, !Rsum_scal_r, Ha, Hb. unfold entropy2. lra.
Qed.

(** 0 <= JS <= H(pi), however long the sequences. *)
Theorem js_bounds : forall T,
  0 <= JS pi (sequences V T) (prob p) (prob q) <= entropy2 pi.
Proof.
  intros T. split.
  - apply (js_instance V pi p q pi_pos pi_lt_1 p_model q_model).
  - apply js_le_entropy.
    + intros y _. split; [apply P_nonneg | apply Q_nonneg].
    + apply (total_prob V p T p_model).
    + apply (total_prob V q T q_model).
Qed.

End JensenShannon.
