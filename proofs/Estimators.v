(** * Estimators: whose prefixes carry the value

    The same exact value can be read off teacher samples alone, student samples
    alone, or both.  (Wen et al., 2023, use the two halves of Eqns. 8 and 25.)

    Definitions
      [js_teacher_term]        (pi/w) JS_w(p, q) at s
      [js_student_term]        ((1-pi)/(1-w)) JS_w(p, q) at s
      [tvd_teacher_term]       min(1,u) - sum_v min(p, u q) at s, u = Q(s)/P(s)
      [cap x]                  min(1, x)
      [kappa_teacher]          product of min(1, q/p) along s

    Main results
      [js_teacher_only]        JS = E_{y~P} sum_t (pi/w) JS_w(p, q)
      [js_teacher_term_bound]  each term is at most pi KL(p||q)
      [js_student_only]        JS = E_{y~Q} sum_t ((1-pi)/(1-w)) JS_w(p, q)
      [js_balance_halves]      JS = pi E_P sum_t JS_w + (1-pi) E_Q sum_t JS_w
      [overlap_teacher_only], [overlap_student_only]
                               the overlap bound from either side alone
      [overlap_balance_weight] its weight on every prefix: omega/M
      [tvd_teacher_only]       exact TVD = E_{y~P} sum_t [min(1,u) - sum_v min(p, u q)]
      [tvd_teacher_term_bound] each term is between 0 and min(1,u)
      [product_teacher_half]   kappa(s) = P(s) times a product of min(1, q/p)

    "E_{y~P} sum_t" is the sum over y of P(y) times the sum over the prefixes of y. *)

Require Import Reals List Lra Lia.
Require Import FDistill.Sequences FDistill.Divergences FDistill.ChainRule.
Require Import FDistill.JensenShannon FDistill.Middle FDistill.TotalVariation.
Import ListNotations.
Open Scope R_scope.

Definition js_teacher_term (pi : R) {token : Type} (V : list token) (p q : model token)
  (s : list token) : R :=
  pi / posterior pi p q s * JS (posterior pi p q s) V (p s) (q s).

Definition js_student_term (pi : R) {token : Type} (V : list token) (p q : model token)
  (s : list token) : R :=
  (1 - pi) / (1 - posterior pi p q s) * JS (posterior pi p q s) V (p s) (q s).

Definition cap (x : R) : R := Rmin 1 x.

Definition tvd_teacher_term {token : Type} (V : list token) (p q : model token)
  (s : list token) : R :=
  cap (prob q s / prob p s) - Rsum V (fun v => Rmin (p s v) (prob q s / prob p s * q s v)).

Fixpoint kappa_teacher {token : Type} (p q : model token) (s : list token) : R :=
  match s with
  | [] => 1
  | v :: s' => cap (q s' v / p s' v) * kappa_teacher p q s'
  end.

Lemma Rmin_scale : forall c x y, 0 <= c -> c * Rmin x y = Rmin (c * x) (c * y).
Proof.
  intros c x y Hc. destruct (Rle_dec x y) as [H|H].
  - rewrite !Rmin_left; [reflexivity | apply Rmult_le_compat_l; assumption | exact H].
  - rewrite !Rmin_right; [reflexivity | apply Rmult_le_compat_l; lra | lra].
Qed.

(** x min(1, y/x) = min(x, y), zeros included. *)
Lemma cap_scale : forall x y, 0 <= x -> 0 <= y -> x * cap (y / x) = Rmin x y.
Proof.
  intros x y Hx Hy. destruct (Req_dec x 0) as [->|N].
  - rewrite Rmult_0_l, Rmin_left by exact Hy. reflexivity.
  - unfold cap. rewrite Rmin_scale by exact Hx. f_equal; [ring | field; exact N].
Qed.

Section Estimators.
Context {token : Type} (V : list token).
Variables (p q : model token).
Hypothesis p_model : is_model V p.
Hypothesis q_model : is_model V q.

Lemma P0 : forall s, 0 <= prob p s.
Proof. intros. apply (prob_nonneg V), p_model. Qed.

Lemma Q0 : forall s, 0 <= prob q s.
Proof. intros. apply (prob_nonneg V), q_model. Qed.

(** ** Jensen-Shannon *)

Section JS.
Variable pi : R.
Hypothesis pi_pos : 0 < pi.
Hypothesis pi_lt_1 : pi < 1.
Notation w := (posterior pi p q).
Notation M := (mixture pi p q).
Notation m := (middle pi p q).
Notation "'JS_seq' T" := (JS pi (sequences V T) (prob p) (prob q)) (at level 10, T at level 9).

Let wT := posterior_teacher V pi pi_pos pi_lt_1 p q p_model q_model.
Let wS := posterior_student V pi pi_pos pi_lt_1 p q p_model q_model.

(** JS at weight 0 or 1 is 0: there is nothing to tell. *)
Lemma js_at_0 : forall s, JS 0 V (p s) (q s) = 0.
Proof.
  intros s. apply Rsum_zero. intros v _. unfold js.
  replace (0 * p s v + (1 - 0) * q s v) with (q s v) by ring.
  rewrite (kl_same (q s v)) by apply q_model. ring.
Qed.

Lemma js_at_1 : forall s, JS 1 V (p s) (q s) = 0.
Proof.
  intros s. apply Rsum_zero. intros v _. unfold js.
  replace (1 * p s v + (1 - 1) * q s v) with (p s v) by ring.
  rewrite (kl_same (p s v)) by apply p_model. ring.
Qed.

Lemma js_teacher_weight : forall s,
  prob p s * js_teacher_term pi V p q s = M s * JS (w s) V (p s) (q s).
Proof.
  intros s. unfold js_teacher_term. assert (X := wT s).
  destruct (Req_dec (w s) 0) as [E|N].
  - rewrite E, js_at_0. ring.
  - replace (prob p s) with (M s * w s / pi) by (rewrite X; field; lra). field. split; [exact N | lra].
Qed.

Lemma js_student_weight : forall s,
  prob q s * js_student_term pi V p q s = M s * JS (w s) V (p s) (q s).
Proof.
  intros s. unfold js_student_term. assert (X := wS s).
  destruct (Req_dec (1 - w s) 0) as [E|N].
  - replace (w s) with 1 by lra. rewrite js_at_1. ring.
  - replace (prob q s) with (M s * (1 - w s) / (1 - pi)) by (rewrite X; field; lra).
    field. split; [exact N | lra].
Qed.

(** Exact JS from teacher samples alone. *)
Theorem js_teacher_only : forall T,
  JS_seq T = Sum V T (fun y => prob p y * Steps T (fun t => js_teacher_term pi V p q (upto T t y))).
Proof.
  intros T. rewrite (one_sample_serves_every_step V p T _ p_model).
  rewrite js_balance by assumption. apply SumPrefixes_ext. intros s _.
  symmetry. apply js_teacher_weight.
Qed.

(** Exact JS from student samples alone. *)
Theorem js_student_only : forall T,
  JS_seq T = Sum V T (fun y => prob q y * Steps T (fun t => js_student_term pi V p q (upto T t y))).
Proof.
  intros T. rewrite (one_sample_serves_every_step V q T _ q_model).
  rewrite js_balance by assumption. apply SumPrefixes_ext. intros s _.
  symmetry. apply js_student_weight.
Qed.

(** The balance estimator: the same loss on every prefix, whoever wrote it. *)
Theorem js_balance_halves : forall T,
  JS_seq T
  = pi * Sum V T (fun y => prob p y * Steps T (fun t =>
           JS (w (upto T t y)) V (p (upto T t y)) (q (upto T t y))))
  + (1 - pi) * Sum V T (fun y => prob q y * Steps T (fun t =>
           JS (w (upto T t y)) V (p (upto T t y)) (q (upto T t y)))).
Proof.
  intros T.
  rewrite (one_sample_serves_every_step V p T (fun s => JS (w s) V (p s) (q s)) p_model).
  rewrite (one_sample_serves_every_step V q T (fun s => JS (w s) V (p s) (q s)) q_model).
  rewrite js_balance by assumption. rewrite <- !SumPrefixes_scal, <- SumPrefixes_plus.
  apply SumPrefixes_ext. intros s _. unfold mixture at 1. ring.
Qed.

(** No term exceeds pi KL(p(.|s)||q(.|s)): the middle is the best place to meet, q
    is another. *)
Theorem js_teacher_term_bound : forall s, prob p s <> 0 ->
  (forall v, q s v = 0 -> p s v = 0) ->
  js_teacher_term pi V p q s <= pi * KL V (p s) (q s).
Proof.
  intros s N D. unfold js_teacher_term.
  assert (B := posterior_bounds V pi pi_pos pi_lt_1 p q p_model q_model s).
  assert (X := wT s).
  assert (HP := P0 s).
  assert (Hpp : 0 < pi * prob p s) by (apply Rmult_lt_0_compat; lra).
  assert (W : 0 < w s).
  { destruct (Req_dec (w s) 0) as [E|E]; [rewrite E in X; lra | lra]. }
  assert (is_m := middle_model V pi pi_pos pi_lt_1 p q p_model q_model).
  assert (J : w s * KL V (p s) (q s) = JS (w s) V (p s) (q s) + KL V (m s) (q s)).
  { transitivity (w s * KL V (p s) (q s) + (1 - w s) * KL V (q s) (q s)).
    - replace (KL V (q s) (q s)) with 0; [ring|]. symmetry. apply Rsum_zero.
      intros v _. apply kl_same, q_model.
    - unfold KL, JS, Div. rewrite <- !Rsum_scal, <- !Rsum_plus. apply Rsum_ext. intros v _.
      unfold js. rewrite (kl_compensation (w s) (1 - w s) (p s v) (q s v) (m s v) (q s v)).
      + unfold middle, blend. ring.
      + lra.
      + lra.
      + apply p_model.
      + apply q_model.
      + apply is_m.
      + apply q_model.
      + unfold middle, blend. ring.
      + intros F. rewrite F, (D v F). split; ring. }
  assert (G : 0 <= KL V (m s) (q s)).
  { apply gibbs.
    - intros v _. split; [apply is_m | split; [apply q_model|]]. intros F.
      unfold middle, blend. rewrite F, (D v F). ring.
    - rewrite (proj2 is_m), (proj2 q_model). lra. }
  apply Rmult_le_reg_l with (w s); [exact W|].
  replace (w s * (pi / w s * JS (w s) V (p s) (q s))) with (pi * JS (w s) V (p s) (q s))
    by (field; lra).
  replace (w s * (pi * KL V (p s) (q s))) with (pi * (w s * KL V (p s) (q s))) by ring.
  apply Rmult_le_compat_l; lra.
Qed.

(** The weight of the overlap bound on every prefix, whoever wrote it:
    omega/M = 1 / (pi max(1,r) + (1-pi) max(1,u)). *)
Theorem overlap_balance_weight : forall s, 0 < prob p s -> 0 < prob q s ->
  overlap p q s = M s * / (pi * Rmax 1 (prob p s / prob q s) + (1 - pi) * Rmax 1 (prob q s / prob p s)).
Proof.
  intros s HP HQ. unfold overlap, mixture.
  assert (A : 0 < pi * prob p s) by (apply Rmult_lt_0_compat; lra).
  assert (B : 0 < (1 - pi) * prob q s) by (apply Rmult_lt_0_compat; lra).
  destruct (Rle_dec (prob p s) (prob q s)) as [L|L].
  - assert (R1 : prob p s / prob q s <= 1).
    { apply Rmult_le_reg_r with (prob q s); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l; lra. }
    assert (R2 : 1 <= prob q s / prob p s).
    { apply Rmult_le_reg_r with (prob p s); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l; lra. }
    rewrite Rmin_left, Rmax_left, Rmax_right by lra. field. lra.
  - assert (R1 : 1 <= prob p s / prob q s).
    { apply Rmult_le_reg_r with (prob q s); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l; lra. }
    assert (R2 : prob q s / prob p s <= 1).
    { apply Rmult_le_reg_r with (prob p s); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l; lra. }
    rewrite Rmin_right, Rmax_right, Rmax_left by lra. field. lra.
Qed.

End JS.

(** ** Total variation *)

(** The overlap bound from teacher samples alone, with weights min(1, Q/P). *)
Theorem overlap_teacher_only : forall T,
  weighted_tv V T p q (overlap p q)
  = Sum V T (fun y => prob p y * Steps T (fun t =>
      cap (prob q (upto T t y) / prob p (upto T t y)) * TV V (p (upto T t y)) (q (upto T t y)))).
Proof.
  intros T.
  rewrite (one_sample_serves_every_step V p T
    (fun s => cap (prob q s / prob p s) * TV V (p s) (q s)) p_model).
  apply SumPrefixes_ext. intros s _. rewrite <- Rmult_assoc, cap_scale by (apply P0 || apply Q0).
  reflexivity.
Qed.

(** And from student samples alone, with weights min(1, P/Q). *)
Theorem overlap_student_only : forall T,
  weighted_tv V T p q (overlap p q)
  = Sum V T (fun y => prob q y * Steps T (fun t =>
      cap (prob p (upto T t y) / prob q (upto T t y)) * TV V (p (upto T t y)) (q (upto T t y)))).
Proof.
  intros T.
  rewrite (one_sample_serves_every_step V q T
    (fun s => cap (prob p s / prob q s) * TV V (p s) (q s)) q_model).
  apply SumPrefixes_ext. intros s _. rewrite <- Rmult_assoc, cap_scale by (apply P0 || apply Q0).
  unfold overlap. rewrite Rmin_comm. reflexivity.
Qed.

Lemma tvd_teacher_weight : forall s,
  prob p s * tvd_teacher_term V p q s
  = Rmin (prob p s) (prob q s) - Rsum V (fun v => Rmin (p s v * prob p s) (q s v * prob q s)).
Proof.
  intros s. unfold tvd_teacher_term. rewrite Rmult_minus_distr_l, cap_scale by (apply P0 || apply Q0).
  f_equal. f_equal. rewrite <- Rsum_scal. apply Rsum_ext. intros v _.
  destruct (Req_dec (prob p s) 0) as [E|N].
  - rewrite E, Rmult_0_l, Rmult_0_r. symmetry. apply Rmin_left.
    apply Rmult_le_pos; [apply q_model | apply Q0].
  - rewrite Rmin_scale by apply P0. f_equal; [ring | field; exact N].
Qed.

(** Exact TVD from teacher samples alone. *)
Theorem tvd_teacher_only : forall T,
  tvd V T p q
  = Sum V T (fun y => prob p y * Steps T (fun t => tvd_teacher_term V p q (upto T t y))).
Proof.
  intros T. rewrite (one_sample_serves_every_step V p T _ p_model).
  unfold tvd. rewrite tvd_chain_rule by assumption. apply SumPrefixes_ext. intros s _.
  symmetry. apply tvd_teacher_weight.
Qed.

(** Its terms are between 0 and min(1, u). *)
Theorem tvd_teacher_term_bound : forall s, 0 <= tvd_teacher_term V p q s <= cap (prob q s / prob p s).
Proof.
  intros s. unfold tvd_teacher_term. set (u := prob q s / prob p s).
  assert (Hu : 0 <= u).
  { unfold u. destruct (Req_dec (prob p s) 0) as [E|N].
    - rewrite E. unfold Rdiv. rewrite Rinv_0. lra.
    - apply ratio_nonneg; [apply Q0 | assert (H := P0 s); lra]. }
  split.
  - assert (Rsum V (fun v => Rmin (p s v) (u * q s v)) <= cap u); [|lra].
    apply Rmin_glb.
    + rewrite <- (proj2 p_model s). apply Rsum_le. intros; apply Rmin_l.
    + apply Rle_trans with (Rsum V (fun v => u * q s v)).
      * apply Rsum_le. intros; apply Rmin_r.
      * rewrite Rsum_scal, (proj2 q_model). lra.
  - assert (0 <= Rsum V (fun v => Rmin (p s v) (u * q s v))); [|lra].
    apply Rsum_nonneg. intros v _. apply Rmin_glb; [apply p_model|].
    apply Rmult_le_pos; [exact Hu | apply q_model].
Qed.

(** The product bound from teacher samples alone: the weight is a product of
    acceptance probabilities of the tokens before. *)
Theorem product_teacher_half : forall T,
  (forall s, prob p s * kappa_teacher p q s = kappa p q s) /\
  weighted_tv V T p q (kappa p q)
  = Sum V T (fun y => prob p y * Steps T (fun t =>
      kappa_teacher p q (upto T t y) * TV V (p (upto T t y)) (q (upto T t y)))).
Proof.
  intros T.
  assert (K : forall s, prob p s * kappa_teacher p q s = kappa p q s).
  { induction s as [|v s IH]; simpl; [ring|].
    rewrite <- IH, <- (cap_scale (p s v) (q s v)) by (apply p_model || apply q_model). ring. }
  split; [exact K|].
  rewrite (one_sample_serves_every_step V p T
    (fun s => kappa_teacher p q s * TV V (p s) (q s)) p_model).
  apply SumPrefixes_ext. intros s _. rewrite <- Rmult_assoc, K. reflexivity.
Qed.

End Estimators.
