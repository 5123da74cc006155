(** * Middle: what another middle distribution costs

    Wen et al. (2023) note after their Eqns. 11-12 that their code averages the
    conditionals, m' = p/2 + q/2 at every step (Eqn. 11), in place of the exact
    middle of Eqn. 12.  This file says what any weight w' in m' = w' p + (1-w') q,
    used in both halves, does to the value.

    Definitions
      [middle_value w']        sum_s pi P(s) KL(p||m') + (1-pi) Q(s) KL(q||m')
      [admissible w']          0 <= w' <= 1, reaching 0 or 1 only on prefixes that
                               the teacher, or the student, cannot write
      [between x y z]          y lies between x and z
      [tempered tau], [clipped c], [remembered g]   the families of weights
      [pQ], [qQ], [pX], [qX]   a pair of rational models on two tokens

    Main results
      [middle_gap]             middle_value w' = JS + sum_s M(s) KL(m(.|s)||m'(.|s))
      [middle_gap_is_kl]       the gap is KL(M||M') between sequence laws
      [middle_upper_bound]     so middle_value w' >= JS
      [middle_exact_iff]       equality iff w' = posterior or p = q wherever reachable
      [middle_monotone]        the value never falls as w' moves away from the posterior
      [token_middle_upper_bound], [token_middle_exact_iff], [token_middle_bound],
      [token_middle_attained]  Eqn. 11: JS <= value <= T H(pi), attained by
                               disjoint conditionals
      [tempered_ordered], [tempered_ends], [clipped_ordered],
      [remembered_upper_bound] tempered, clipped and forgetful weights
      [rational_counterexample], [token_middle_strict]  Eqn. 11 is not Eqn. 12 *)

Require Import Reals QArith Qreals List Lra Lia.
Require Import FDistill.Sequences FDistill.Divergences FDistill.ChainRule FDistill.JensenShannon.
Import ListNotations.
Open Scope R_scope.

Definition between (x y z : R) : Prop := (x <= y /\ y <= z) \/ (z <= y /\ y <= x).

Definition admissible {token : Type} (p q : model token) (w' : list token -> R) : Prop :=
  forall s, 0 <= w' s <= 1 /\ (w' s = 0 -> prob p s = 0) /\ (w' s = 1 -> prob q s = 0).

Definition middle_value (pi : R) {token : Type} (V : list token) (T : nat) (p q : model token)
  (w' : list token -> R) : R :=
  SumPrefixes V T (fun s => pi * prob p s * KL V (p s) (blend w' p q s)
                          + (1 - pi) * prob q s * KL V (q s) (blend w' p q s)).

Definition log_ratio {token : Type} (p q : model token) (s : list token) : R :=
  ln (prob p s / prob q s).

(** From Eqn. 11 (tau = 0) to Eqn. 12 (tau = 1). *)
Definition tempered (pi tau : R) {token : Type} (p q : model token) (s : list token) : R :=
  sigmoid (logit pi + tau * log_ratio p q s).

Definition clip (c x : R) : R := Rmax (- c) (Rmin c x).

Lemma clip_pos : forall c x, 0 <= c -> 0 <= x -> clip c x = Rmin c x.
Proof.
  intros c x Hc Hx. unfold clip. apply Rmax_right. apply Rle_trans with 0; [lra | apply Rmin_glb; lra].
Qed.

Lemma clip_neg : forall c x, 0 <= c -> x <= 0 -> clip c x = Rmax (- c) x.
Proof. intros c x Hc Hx. unfold clip. rewrite Rmin_right by lra. reflexivity. Qed.

Definition clipped (pi c : R) {token : Type} (p q : model token) (s : list token) : R :=
  sigmoid (logit pi + clip c (log_ratio p q s)).

(** The log-ratio of a writer who forgets at rate g per token. *)
Fixpoint remembered_ratio (g : R) {token : Type} (p q : model token) (s : list token) : R :=
  match s with
  | [] => 0
  | v :: s' => g * remembered_ratio g p q s' + (ln (p s' v) - ln (q s' v))
  end.

Definition remembered (pi g : R) {token : Type} (p q : model token) (s : list token) : R :=
  sigmoid (logit pi + remembered_ratio g p q s).

(** ** The pointwise identity *)

Lemma kl_weighted : forall al a x, 0 <= al -> 0 <= a -> (al * a <> 0 -> 0 < x) ->
  al * kl a x = al * a * ln a - al * a * ln x.
Proof.
  intros al a x Hal Ha Hx. destruct (Req_dec (al * a) 0) as [E|E].
  - unfold kl. rewrite <- Rmult_assoc, E. ring.
  - rewrite kl_split; [ring | exact Ha | intros _; apply Hx, E].
Qed.

Lemma kl_compensation : forall al be a b mu mu',
  0 <= al -> 0 <= be -> 0 <= a -> 0 <= b -> 0 <= mu -> 0 <= mu' ->
  (al + be) * mu = al * a + be * b -> (mu' = 0 -> al * a = 0 /\ be * b = 0) ->
  al * kl a mu' + be * kl b mu'
  = (al * kl a mu + be * kl b mu) + (al + be) * kl mu mu'.
Proof.
  intros al be a b mu mu' Hal Hbe Ha Hb Hmu Hmu' E Z.
  assert (Aa : 0 <= al * a) by (apply Rmult_le_pos; assumption).
  assert (Bb : 0 <= be * b) by (apply Rmult_le_pos; assumption).
  assert (Pmu : al * a + be * b <> 0 -> 0 < mu).
  { intros N. destruct (Req_dec mu 0) as [F|F]; [|lra]. rewrite F in E. lra. }
  assert (Pmu' : al * a + be * b <> 0 -> 0 < mu').
  { intros N. destruct (Req_dec mu' 0) as [F|F]; [|lra]. apply Z in F. lra. }
  rewrite !kl_weighted; try lra; try (intros; apply Pmu; lra); try (intros; apply Pmu'; lra).
  rewrite !E. ring.
Qed.

Section Middle.
Context {token : Type} (V : list token) (pi : R).
Hypothesis pi_pos : 0 < pi.
Hypothesis pi_lt_1 : pi < 1.
Variables (p q : model token).
Hypothesis p_model : is_model V p.
Hypothesis q_model : is_model V q.

Notation M := (mixture pi p q).
Notation w := (posterior pi p q).
Notation m := (middle pi p q).
Notation value := (middle_value pi V).
Notation "'JS_seq' T" := (JS pi (sequences V T) (prob p) (prob q)) (at level 10, T at level 9).

Let M0 := M_nonneg V pi pi_pos pi_lt_1 p q p_model q_model.
Let MZ := M_zero V pi pi_pos pi_lt_1 p q p_model q_model.
Let wT := posterior_teacher V pi pi_pos pi_lt_1 p q p_model q_model.
Let wS := posterior_student V pi pi_pos pi_lt_1 p q p_model q_model.
Let law := middle_law V pi pi_pos pi_lt_1 p q p_model q_model.
Let parts := parts_nonneg V pi pi_pos pi_lt_1 p q p_model q_model.
Let is_m := middle_model V pi pi_pos pi_lt_1 p q p_model q_model.

Lemma admissible_of_interior : forall w', (forall s, 0 < w' s < 1) -> admissible p q w'.
Proof. intros w' H s. specialize (H s). repeat split; intros; lra. Qed.

(** The posterior itself is admissible: it is the exact middle's weight. *)
Lemma admissible_posterior : admissible p q w.
Proof.
  intros s. split; [apply (posterior_bounds V); assumption | split; intros F].
  - assert (X := wT s). rewrite F in X.
    assert (Y : pi * prob p s = 0) by lra. apply Rmult_integral in Y. lra.
  - assert (X := wS s). rewrite F in X.
    assert (Y : (1 - pi) * prob q s = 0) by lra. apply Rmult_integral in Y. lra.
Qed.

Section OneWeight.
Variable w' : list token -> R.
Hypothesis w'_ok : admissible p q w'.
Notation m' := (blend w' p q).

Lemma m'_model : is_model V m'.
Proof. apply blend_model; try assumption. intros s. apply (w'_ok s). Qed.

(** m' gives no weight only where neither half can go. *)
Lemma m'_zero : forall s v, m' s v = 0 -> prob p s * p s v = 0 /\ prob q s * q s v = 0.
Proof.
  intros s v E. destruct (w'_ok s) as [B [Z O]]. unfold blend in E.
  assert (A1 : 0 <= w' s * p s v) by (apply Rmult_le_pos; [lra | apply p_model]).
  assert (A2 : 0 <= (1 - w' s) * q s v) by (apply Rmult_le_pos; [lra | apply q_model]).
  assert (E1 : w' s * p s v = 0) by lra. assert (E2 : (1 - w' s) * q s v = 0) by lra.
  apply Rmult_integral in E1. apply Rmult_integral in E2. split.
  - destruct E1 as [F|F]; [rewrite (Z F); ring | rewrite F; ring].
  - destruct E2 as [F|F]; [rewrite O by lra; ring | rewrite F; ring].
Qed.

Lemma m'_dominates_step : forall s v, M s <> 0 -> dominated_cone (m s v) (m' s v).
Proof.
  intros s v E. split; [apply is_m | split; [apply m'_model|]]. intros F.
  destruct (m'_zero s v F) as [A B].
  apply Rmult_eq_reg_l with (M s); [|exact E]. rewrite Rmult_0_r.
  unfold middle, blend. rewrite Rmult_plus_distr_l, <- !Rmult_assoc, wT, wS.
  rewrite !Rmult_assoc, A, B. ring.
Qed.

Lemma m'_dominates : dominated m m'.
Proof.
  intros s. induction s as [|v s IH]; simpl; intros E; [lra|].
  apply Rmult_integral in E. destruct E as [E|E]; [|rewrite (IH E); ring].
  rewrite law. destruct (Req_dec (M s) 0) as [F|F]; [rewrite F; ring|].
  assert (D := m'_dominates_step s v F). rewrite (proj2 (proj2 D) E). ring.
Qed.

(** On one prefix: both halves to any m' cost both halves to m plus M KL(m||m'). *)
Lemma middle_gap_step : forall s,
  pi * prob p s * KL V (p s) (m' s) + (1 - pi) * prob q s * KL V (q s) (m' s)
  = (pi * prob p s * KL V (p s) (m s) + (1 - pi) * prob q s * KL V (q s) (m s))
    + M s * KL V (m s) (m' s).
Proof.
  intros s. unfold KL, Div. rewrite <- !Rsum_scal, <- !Rsum_plus.
  apply Rsum_ext. intros v _. unfold mixture at 1.
  destruct (parts s) as [A B].
  apply kl_compensation; try assumption; try apply p_model; try apply q_model;
    try apply is_m; try apply m'_model.
  - change (pi * prob p s + (1 - pi) * prob q s) with (M s).
    unfold middle, blend. rewrite Rmult_plus_distr_l, <- !Rmult_assoc, wT, wS. reflexivity.
  - intros E. destruct (m'_zero s v E) as [X Y]. rewrite !Rmult_assoc, X, Y. split; ring.
Qed.

(** The gap, exactly. *)
Theorem middle_gap : forall T,
  value T p q w' = JS_seq T + SumPrefixes V T (fun s => M s * KL V (m s) (m' s)).
Proof.
  intros T. rewrite js_decomposition by assumption. rewrite <- SumPrefixes_plus.
  apply SumPrefixes_ext. intros s _. apply middle_gap_step.
Qed.

(** The gap is the KL from M, which flips the writer's coin once, to the law of m',
    which flips a coin at every token. *)
Theorem middle_gap_is_kl : forall T,
  value T p q w' = JS_seq T + KL (sequences V T) M (prob m').
Proof.
  intros T. rewrite middle_gap. f_equal.
  transitivity (KL (sequences V T) (prob m) (prob m')).
  - rewrite (kl_chain_rule V T m m' is_m m'_model m'_dominates).
    apply SumPrefixes_ext. intros s _. rewrite law. reflexivity.
  - unfold KL, Div. apply Rsum_ext. intros y _. rewrite law. reflexivity.
Qed.

Lemma gap_term_nonneg : forall s, 0 <= M s * KL V (m s) (m' s).
Proof.
  intros s. destruct (Req_dec (M s) 0) as [E|E]; [rewrite E; lra|].
  apply Rmult_le_pos; [apply M0|]. apply gibbs.
  - intros v _. apply m'_dominates_step, E.
  - rewrite (proj2 is_m), (proj2 m'_model). lra.
Qed.

(** Any other weight in both halves gives an upper bound of JS. *)
Theorem middle_upper_bound : forall T, JS_seq T <= value T p q w'.
Proof.
  intros T. rewrite middle_gap.
  assert (N := SumPrefixes_nonneg V T _ (fun s _ => gap_term_nonneg s)). lra.
Qed.

(** Equality iff, wherever a prefix is reachable, the weight is the posterior or the
    two models agree. *)
Theorem middle_exact_iff : forall T,
  value T p q w' = JS_seq T <->
  forall t s, (t < T)%nat -> In s (sequences V t) -> M s <> 0 ->
    w' s = w s \/ same_step V p q s.
Proof.
  intros T. rewrite middle_gap. split.
  - intros E t s Ht Hs N.
    assert (Z : M s * KL V (m s) (m' s) = 0).
    { apply (SumPrefixes_zero_terms V T (fun s => M s * KL V (m s) (m' s))) with t; try assumption.
      - intros u _. apply gap_term_nonneg.
      - lra. }
    apply Rmult_integral in Z. destruct Z as [Z|Z]; [contradiction|].
    assert (K := proj1 (KL_zero_iff V (m s) (m' s) (fun v _ => m'_dominates_step s v N)
      (eq_trans (proj2 is_m s) (eq_sym (proj2 m'_model s)))) Z).
    destruct (Req_dec (w' s) (w s)) as [W|W]; [left; exact W | right]. intros v Hv.
    specialize (K v Hv). unfold middle, blend in K.
    assert (X : (w' s - w s) * (p s v - q s v) = 0) by lra.
    apply Rmult_integral in X. lra.
  - intros H. assert (Z : SumPrefixes V T (fun s => M s * KL V (m s) (m' s)) = 0); [|lra].
    unfold SumPrefixes. rewrite (Steps_ext T _ (fun _ => 0)); [rewrite Steps_const; ring|].
    intros t Ht. apply Rsum_zero. intros s Hs.
    destruct (Req_dec (M s) 0) as [E|E]; [rewrite E; ring|].
    replace (KL V (m s) (m' s)) with 0; [ring|]. symmetry. apply Rsum_zero. intros v Hv.
    replace (m' s v) with (m s v).
    + apply kl_same, is_m.
    + unfold middle, blend. destruct (H t s Ht Hs E) as [W|W]; [rewrite W; ring|].
      rewrite (W v Hv). ring.
Qed.

End OneWeight.

(** ** Monotone in the distance from the posterior *)

Lemma kl_between : forall lam a b, 0 <= lam <= 1 -> dominated_cone a b ->
  kl a (lam * a + (1 - lam) * b) <= (1 - lam) * kl a b.
Proof.
  intros lam a b Hl H.
  assert (Ca : dominated_cone a a) by (destruct H; split; [lra | split; [lra | auto]]).
  assert (S := proj2 kl_subadditive (lam * a) (lam * a) ((1 - lam) * a) ((1 - lam) * b)
    (dominated_cone_scale lam a a (proj1 Hl) Ca)
    (dominated_cone_scale (1 - lam) a b ltac:(lra) H)).
  replace (lam * a + (1 - lam) * a) with a in S by ring.
  rewrite kl_same in S by (apply Rmult_le_pos; [lra | apply H]).
  rewrite kl_scale in S; [lra | lra |].
  intros N. assert (0 < b) by (apply (dominated_cone_pos a); assumption). lra.
Qed.

(** The value never falls as the weight moves away from the posterior. *)
Theorem middle_monotone : forall w1 w2 T, admissible p q w1 -> admissible p q w2 ->
  (forall s, incl s V -> M s <> 0 -> between (w s) (w1 s) (w2 s)) ->
  value T p q w1 <= value T p q w2.
Proof.
  intros w1 w2 T H1 H2 Hb. rewrite (middle_gap w1 H1), (middle_gap w2 H2).
  apply Rplus_le_compat_l, SumPrefixes_le. intros s Hs.
  destruct (Req_dec (M s) 0) as [E|E]; [rewrite E; lra|].
  apply Rmult_le_compat_l; [apply M0|].
  assert (Dom := fun v => m'_dominates_step w2 H2 s v E).
  assert (Nonneg : 0 <= KL V (m s) (blend w2 p q s)).
  { apply gibbs; [intros v _; apply Dom|].
    rewrite (proj2 is_m), (proj2 (m'_model w2 H2)). lra. }
  destruct (Req_dec (w2 s) (w s)) as [W|W].
  { assert (X : w1 s = w2 s) by (destruct (Hb s Hs E); lra).
    right. unfold blend. rewrite X. reflexivity. }
  set (lam := (w2 s - w1 s) / (w2 s - w s)).
  assert (D : w2 s - w s <> 0) by lra.
  assert (Hl : 0 <= lam <= 1).
  { unfold lam. destruct (Hb s Hs E) as [[A B]|[A B]].
    - assert (Hd : 0 < w2 s - w s) by lra.
      split; [apply ratio_nonneg; lra|].
      apply Rmult_le_reg_r with (w2 s - w s); [lra|].
      replace ((w2 s - w1 s) / (w2 s - w s) * (w2 s - w s)) with (w2 s - w1 s) by (field; exact D). lra.
    - assert (Hd : 0 < w s - w2 s) by lra.
      replace ((w2 s - w1 s) / (w2 s - w s)) with ((w1 s - w2 s) / (w s - w2 s)) by (field; lra).
      split; [apply ratio_nonneg; lra|].
      apply Rmult_le_reg_r with (w s - w2 s); [lra|].
      replace ((w1 s - w2 s) / (w s - w2 s) * (w s - w2 s)) with (w1 s - w2 s) by (field; lra). lra. }
  apply Rle_trans with ((1 - lam) * KL V (m s) (blend w2 p q s)).
  - unfold KL, Div. rewrite <- Rsum_scal. apply Rsum_le. intros v _.
    replace (blend w1 p q s v) with (lam * m s v + (1 - lam) * blend w2 p q s v).
    + apply kl_between; [exact Hl | apply Dom].
    + unfold middle, blend.
      assert (X : lam * w s + (1 - lam) * w2 s = w1 s) by (unfold lam; field; exact D).
      rewrite <- X. ring.
  - rewrite <- (Rmult_1_l (KL V (m s) (blend w2 p q s))) at 2.
    apply Rmult_le_compat_r; lra.
Qed.

(** ** Eqn. 11: the weight is the prior at every step *)

Lemma token_admissible : admissible p q (fun _ => pi).
Proof. apply admissible_of_interior. intros _. lra. Qed.

(** The published form is an upper bound of the JS it stands for. *)
Theorem token_middle_upper_bound : forall T, JS_seq T <= value T p q (fun _ => pi).
Proof. intros T. apply middle_upper_bound, token_admissible. Qed.

(** It is exact iff P(s) = Q(s) or p = q at every reachable prefix. *)
Theorem token_middle_exact_iff : forall T,
  value T p q (fun _ => pi) = JS_seq T <->
  forall t s, (t < T)%nat -> In s (sequences V t) -> M s <> 0 ->
    prob p s = prob q s \/ same_step V p q s.
Proof.
  intros T. rewrite (middle_exact_iff (fun _ => pi) token_admissible T).
  assert (Eq : forall s, M s <> 0 -> (pi = w s <-> prob p s = prob q s)).
  { intros s N. assert (X := wT s). split; intros E.
    - rewrite <- E in X. unfold mixture in X.
      assert (Y : pi * ((1 - pi) * (prob q s - prob p s)) = 0) by lra.
      apply Rmult_integral in Y. destruct Y as [Y|Y]; [lra|].
      apply Rmult_integral in Y. lra.
    - apply Rmult_eq_reg_l with (M s); [|exact N]. rewrite X. unfold mixture. rewrite E. ring. }
  split; intros H t s Ht Hs N; (destruct (H t s Ht Hs N) as [W|W]; [left; apply (Eq s N), W | right; exact W]).
Qed.

(** It is at most T H(pi). *)
Theorem token_middle_bound : forall T, value T p q (fun _ => pi) <= INR T * entropy2 pi.
Proof.
  intros T. rewrite <- Steps_const. unfold middle_value, SumPrefixes.
  apply Steps_le. intros t _.
  apply Rle_trans with (Sum V t (fun s => pi * prob p s * - ln pi + (1 - pi) * prob q s * - ln (1 - pi))).
  - apply Rsum_le. intros s _. destruct (parts s) as [A B].
    apply Rplus_le_compat; (apply Rmult_le_compat_l; [assumption|]).
    + apply Rle_trans with (Rsum V (fun v => p s v * - ln pi)).
      * apply Rsum_le. intros v _. unfold blend. apply kl_to_mixture_le;
          [lra | apply p_model | apply Rmult_le_pos; [lra | apply q_model]].
      * rewrite Rsum_scal_r, (proj2 p_model). lra.
    + apply Rle_trans with (Rsum V (fun v => q s v * - ln (1 - pi))).
      * apply Rsum_le. intros v _. unfold blend. rewrite Rplus_comm. apply kl_to_mixture_le;
          [lra | apply q_model | apply Rmult_le_pos; [lra | apply p_model]].
      * rewrite Rsum_scal_r, (proj2 q_model). lra.
  - unfold Sum. rewrite Rsum_plus, !Rsum_scal_r, !Rsum_scal.
    assert (EP := total_prob V p t p_model). assert (EQ := total_prob V q t q_model).
    unfold Sum in EP, EQ. rewrite EP, EQ. unfold entropy2. lra.
Qed.

(** The bound is attained by models with disjoint conditionals. *)
Theorem token_middle_attained : forall T, (forall s v, p s v * q s v = 0) ->
  value T p q (fun _ => pi) = INR T * entropy2 pi.
Proof.
  intros T H. rewrite <- Steps_const. unfold middle_value, SumPrefixes.
  apply Steps_ext. intros t _.
  assert (KA : forall c a b, 0 < c -> a * b = 0 -> kl a (c * a + (1 - c) * b) = a * - ln c).
  { intros c a b Hc E. destruct (Req_dec a 0) as [->|N]; [rewrite kl_0_l; ring|].
    assert (b = 0) as -> by (apply Rmult_integral in E; tauto).
    rewrite Rmult_0_r, Rplus_0_r. unfold kl.
    replace (a / (c * a)) with (/ c) by (field; lra). rewrite ln_Rinv by exact Hc. reflexivity. }
  unfold Sum. rewrite (Rsum_ext (sequences V t) _
    (fun s => pi * prob p s * - ln pi + (1 - pi) * prob q s * - ln (1 - pi))).
  - rewrite Rsum_plus, !Rsum_scal_r, !Rsum_scal.
    assert (EP := total_prob V p t p_model). assert (EQ := total_prob V q t q_model).
    unfold Sum in EP, EQ. rewrite EP, EQ. unfold entropy2. lra.
  - intros s _. f_equal; f_equal; unfold KL, Div, blend.
    + rewrite (Rsum_ext V _ (fun v => p s v * - ln pi)); [rewrite Rsum_scal_r, (proj2 p_model); ring|].
      intros v _. apply KA; [exact pi_pos | apply H].
    + rewrite (Rsum_ext V _ (fun v => q s v * - ln (1 - pi))); [rewrite Rsum_scal_r, (proj2 q_model); ring|].
      intros v _. rewrite Rplus_comm. replace (pi * p s v) with ((1 - (1 - pi)) * p s v) by ring.
      apply KA; [lra | rewrite Rmult_comm; apply H].
Qed.

(** ** Families of weights, for positive models *)

Section Families.
Hypothesis p_pos : forall s, 0 < prob p s.
Hypothesis q_pos : forall s, 0 < prob q s.

Lemma w_sigmoid : forall s, w s = sigmoid (logit pi + log_ratio p q s).
Proof. intros s. apply (posterior_sigmoid pi pi_pos pi_lt_1); auto. Qed.

Lemma sigmoid_admissible : forall x : list token -> R, admissible p q (fun s => sigmoid (x s)).
Proof. intros x. apply admissible_of_interior. intros s. apply sigmoid_bounds. Qed.

(** Scores between the exact log-ratio and another score order the values. *)
Lemma score_ordered : forall (x1 x2 : list token -> R) T,
  (forall s, between (log_ratio p q s) (x1 s) (x2 s)) ->
  value T p q (fun s => sigmoid (logit pi + x1 s)) <= value T p q (fun s => sigmoid (logit pi + x2 s)).
Proof.
  intros x1 x2 T H. apply middle_monotone; try apply sigmoid_admissible.
  intros s _ _. rewrite w_sigmoid. destruct (H s) as [[A B]|[A B]]; [left | right];
    split; apply sigmoid_increasing; lra.
Qed.

(** Tempering: the value never rises as tau goes from 0 (Eqn. 11) to 1 (Eqn. 12). *)
Theorem tempered_ordered : forall tau1 tau2 T, tau1 <= tau2 -> tau2 <= 1 ->
  value T p q (tempered pi tau2 p q) <= value T p q (tempered pi tau1 p q).
Proof.
  intros tau1 tau2 T H12 H2. apply score_ordered. intros s.
  destruct (Rle_dec 0 (log_ratio p q s)) as [L|L]; [right | left].
  - split; [apply Rmult_le_compat_r; assumption|].
    rewrite <- (Rmult_1_l (log_ratio p q s)) at 2. apply Rmult_le_compat_r; assumption.
  - assert (L' : 0 <= - log_ratio p q s) by lra.
    assert (A := Rmult_le_compat_r _ _ _ L' H12). assert (B := Rmult_le_compat_r _ _ _ L' H2). split; lra.
Qed.

(** Its ends are Eqn. 11 and the exact JS; every tau is an upper bound. *)
Theorem tempered_ends : forall T,
  value T p q (tempered pi 0 p q) = value T p q (fun _ => pi) /\
  value T p q (tempered pi 1 p q) = JS_seq T /\
  forall tau, JS_seq T <= value T p q (tempered pi tau p q).
Proof.
  intros T. split; [|split].
  - apply SumPrefixes_ext. intros s _.
    assert (E : tempered pi 0 p q s = pi).
    { unfold tempered, sigmoid, logit. rewrite Rmult_0_l, Rplus_0_r.
      rewrite <- ln_Rinv, exp_ln by (try apply Rinv_0_lt_compat; apply Rdiv_lt_0_compat; lra).
      field. lra. }
    unfold blend. rewrite E. reflexivity.
  - rewrite js_decomposition by assumption. apply SumPrefixes_ext. intros s _.
    assert (E : tempered pi 1 p q s = w s) by (unfold tempered; rewrite Rmult_1_l, w_sigmoid; reflexivity).
    unfold middle, blend. rewrite E. reflexivity.
  - intros tau. apply middle_upper_bound. apply sigmoid_admissible.
Qed.

(** Clipping the log-ratio at +-c: the value never rises with c. *)
Theorem clipped_ordered : forall c1 c2 T, 0 <= c1 -> c1 <= c2 ->
  value T p q (clipped pi c2 p q) <= value T p q (clipped pi c1 p q)
  /\ JS_seq T <= value T p q (clipped pi c2 p q).
Proof.
  intros c1 c2 T H0 H12. split.
  - apply score_ordered. intros s.
    destruct (Rle_dec 0 (log_ratio p q s)) as [L|L]; [right | left].
    + rewrite !clip_pos by lra. split; [apply Rle_min_compat_r; exact H12 | apply Rmin_r].
    + rewrite !clip_neg by lra. split; [apply Rmax_r | apply Rle_max_compat_r; lra].
  - apply middle_upper_bound. apply sigmoid_admissible.
Qed.

(** A ratio that forgets at rate g gives an upper bound too; g = 1 is exact. *)
Theorem remembered_upper_bound : forall T,
  (forall g, JS_seq T <= value T p q (remembered pi g p q)) /\
  value T p q (remembered pi 1 p q) = JS_seq T.
Proof.
  intros T. split; [intros g; apply middle_upper_bound, sigmoid_admissible|].
  assert (E : forall s, remembered_ratio 1 p q s = log_ratio p q s).
  { intros s. unfold log_ratio. induction s as [|v s IH]; simpl.
    - replace (1 / 1) with 1 by field. rewrite ln_1. reflexivity.
    - assert (A := p_pos (v :: s)). assert (B := q_pos (v :: s)). simpl in A, B.
      assert (0 < prob p s) by apply p_pos. assert (0 < prob q s) by apply q_pos.
      assert (0 < p s v) by (apply Rmult_lt_reg_r with (prob p s); lra).
      assert (0 < q s v) by (apply Rmult_lt_reg_r with (prob q s); lra).
      rewrite IH, !ln_div, !ln_mult by assumption. ring. }
  rewrite js_decomposition by assumption. apply SumPrefixes_ext. intros s _.
  assert (W : remembered pi 1 p q s = w s) by (unfold remembered; rewrite E, w_sigmoid; reflexivity).
  unfold middle, blend. rewrite W. reflexivity.
Qed.

End Families.
End Middle.

(** ** Eqn. 11 is not Eqn. 12: two tokens, two steps, rational probabilities *)

Definition pQ (s : list bool) (v : bool) : Q :=
  match s with
  | [] => if v then 3 # 4 else 1 # 4
  | _ => 1 # 2
  end.

Definition qQ (s : list bool) (v : bool) : Q :=
  match s with
  | [] => if v then 1 # 4 else 3 # 4
  | _ => if v then 3 # 4 else 1 # 4
  end.

Fixpoint probQ (m : list bool -> bool -> Q) (s : list bool) : Q :=
  match s with
  | [] => 1
  | v :: s' => Qmult (m s' v) (probQ m s')
  end.

Definition mixtureQ (s : list bool) : Q := Qplus (Qmult (1 # 2) (probQ pQ s)) (Qmult (1 # 2) (probQ qQ s)).

(** In rational arithmetic, by computation: after the first token [true], Eqn. 12
    gives [true] the probability 9/16 and Eqn. 11 gives it 5/8. *)
Theorem rational_counterexample :
  (mixtureQ [true; true] / mixtureQ [true] == 9 # 16)%Q /\
  ((1 # 2) * pQ [true] true + (1 # 2) * qQ [true] true == 5 # 8)%Q.
Proof. split; reflexivity. Qed.

Definition pX : model bool := fun s v => Q2R (pQ s v).
Definition qX : model bool := fun s v => Q2R (qQ s v).

(** The same models over the reals: Eqn. 11's value is strictly above JS. *)
Theorem token_middle_strict :
  is_model [true; false] pX /\ is_model [true; false] qX /\
  JS (/ 2) (sequences [true; false] 2) (prob pX) (prob qX)
  < middle_value (/ 2) [true; false] 2 pX qX (fun _ => / 2).
Proof.
  assert (Hp : is_model [true; false] pX).
  { split; [intros [|u s] [|] | intros [|u s]]; unfold pX, Q2R; simpl; lra. }
  assert (Hq : is_model [true; false] qX).
  { split; [intros [|u s] [|] | intros [|u s]]; unfold qX, Q2R; simpl; lra. }
  split; [exact Hp | split; [exact Hq|]].
  assert (U := token_middle_upper_bound [true; false] (/ 2) ltac:(lra) ltac:(lra) pX qX Hp Hq 2).
  destruct U as [U|U]; [exact U | exfalso].
  assert (X := proj1 (token_middle_exact_iff [true; false] (/ 2) ltac:(lra) ltac:(lra)
    pX qX Hp Hq 2) (eq_sym U)).
  destruct (X 1%nat [true]) as [E|E].
  - lia.
  - simpl. auto.
  - unfold mixture, pX, qX, Q2R. simpl. lra.
  - unfold pX, qX, Q2R in E. simpl in E. lra.
  - specialize (E true (or_introl eq_refl)). unfold pX, qX, Q2R in E. simpl in E. lra.
Qed.
