(** * TotalVariation: the step-wise bounds of TVD, and sharper ones

    Wen et al. (2023), Theorem 1b and its proof (Eqns. 23-37), for every finite
    vocabulary V and every length T, zeros included.  tv(s) below is the word-level
    total variation 1/2 sum_v |p(v|s) - q(v|s)|, [TV V (p s) (q s)].

    Definitions
      [tvd V T p q]            1/2 sum_y |P(y) - Q(y)| (Eqn. 23)
      [weighted_tv a]          sum_s a(s) tv(s): every bound has this form
      [overlap p q s]          omega(s) = min(P(s), Q(s))
      [kappa p q s]            product of min(p, q) along s
      [pL], [qL]               two-token models that make the overlap weight least

    Main results
      [tvd_last_step]          the induction step of Theorem 1b (Eqns. 26-35): write
                               the last step out, add and subtract, triangle
                               inequality, sum the last token out
      [tvd_teacher_bound]      Eqn. 36: prefixes from the teacher
      [tvd_student_bound]      Eqn. 37: prefixes from the student
      [tvd_paper_bound]        Eqn. 25: half of each
      [tvd_paper_bound_expectation]  Eqn. 25 as written, with expectations
      [tvd_overlap_bound]      TVD <= sum_s omega(s) tv(s)
      [tvd_any_weight_above_overlap]  so any weight >= omega gives a bound
      [overlap_is_least]       and no smaller function of P(s), Q(s) always does
      [product_chain_rule], [tvd_product_bound]
                               TVD <= 1 - sum_y kappa(y) = sum_s kappa(s) tv(s) <= 1
      [tvd_le_1]               TVD <= 1
      [tvd_is_lost_overlap]    TVD = 1 - sum_y omega(y)
      [tvd_order]              TVD <= product <= overlap <= min((36), (37)) <= (25) *)

Require Import Reals List Lra Lia.
Require Import FDistill.Sequences FDistill.Divergences FDistill.ChainRule.
Import ListNotations.
Open Scope R_scope.

Definition tvd {token : Type} (V : list token) (T : nat) (p q : model token) : R :=
  TV (sequences V T) (prob p) (prob q).

Definition weighted_tv {token : Type} (V : list token) (T : nat) (p q : model token)
  (a : list token -> R) : R := SumPrefixes V T (fun s => a s * TV V (p s) (q s)).

Definition overlap {token : Type} (p q : model token) (s : list token) : R :=
  Rmin (prob p s) (prob q s).

Fixpoint kappa {token : Type} (p q : model token) (s : list token) : R :=
  match s with
  | [] => 1
  | v :: s' => Rmin (p s' v) (q s' v) * kappa p q s'
  end.

Lemma Rmin_mult_le : forall a b P Q, 0 <= a -> 0 <= b -> 0 <= P -> 0 <= Q ->
  Rmin a b * Rmin P Q <= Rmin (a * P) (b * Q).
Proof.
  intros a b P Q Ha Hb HP HQ.
  assert (0 <= Rmin a b) by (apply Rmin_glb; assumption).
  assert (0 <= Rmin P Q) by (apply Rmin_glb; assumption).
  apply Rmin_glb; apply Rmult_le_compat; auto using Rmin_l, Rmin_r.
Qed.

Lemma TV_sym : forall {A : Type} (l : list A) (a b : A -> R), TV l a b = TV l b a.
Proof. intros. apply Rsum_ext. intros x _. unfold tv. rewrite Rabs_minus_sym. reflexivity. Qed.

(** TV = 1 - sum min for normalised families. *)
Lemma TV_overlap : forall {A : Type} (l : list A) (a b : A -> R),
  Rsum l a = 1 -> Rsum l b = 1 -> TV l a b = 1 - Rsum l (fun x => Rmin (a x) (b x)).
Proof.
  intros A l a b Ha Hb. unfold TV, Div.
  rewrite (Rsum_ext l _ (fun x => / 2 * (a x + b x) - Rmin (a x) (b x))) by (intros; apply tv_min).
  rewrite Rsum_minus, Rsum_scal, Rsum_plus, Ha, Hb. lra.
Qed.

Section TotalVariation.
Context {token : Type} (V : list token).
Implicit Types (p q : model token) (s : list token).

Lemma overlap_nonneg : forall p q s, is_model V p -> is_model V q -> 0 <= overlap p q s.
Proof. intros. apply Rmin_glb; eapply prob_nonneg; eassumption. Qed.

(** ** The paper's proof *)

(** The induction step of Theorem 1b (Eqns. 26-35).  One more token costs at most
    P(s) tv(s) summed over the prefixes s:
    |P(s)p - Q(s)q| <= P(s) |p - q| + |P(s) - Q(s)| q, and q sums to 1. *)
Theorem tvd_last_step : forall t p q, is_model V p -> is_model V q ->
  tvd V (S t) p q <= tvd V t p q + Sum V t (fun s => prob p s * TV V (p s) (q s)).
Proof.
  intros t p q Hp Hq. unfold tvd, TV, Div.
  change (Sum V (S t) (fun y => tv (prob p y) (prob q y))
    <= Sum V t (fun y => tv (prob p y) (prob q y))
       + Sum V t (fun s => prob p s * Rsum V (fun v => tv (p s v) (q s v)))).
  rewrite Sum_S. unfold Sum. rewrite <- Rsum_plus. apply Rsum_le. intros s _.
  apply Rle_trans with (Rsum V (fun v =>
    q s v * tv (prob p s) (prob q s) + prob p s * tv (p s v) (q s v))).
  - apply Rsum_le. intros v _. simpl. unfold tv.
    replace (p s v * prob p s - q s v * prob q s)
      with (q s v * (prob p s - prob q s) + prob p s * (p s v - q s v)) by ring.
    eapply Rle_trans; [apply Rmult_le_compat_l; [lra | apply Rabs_triang]|].
    rewrite !Rabs_mult, (Rabs_right (q s v)), (Rabs_right (prob p s)).
    + lra.
    + apply Rle_ge, (prob_nonneg V), Hp.
    + apply Rle_ge, Hq.
  - rewrite Rsum_plus, Rsum_scal_r, Rsum_scal, (proj2 Hq). lra.
Qed.

(** Eqn. 36. *)
Theorem tvd_teacher_bound : forall T p q, is_model V p -> is_model V q ->
  tvd V T p q <= weighted_tv V T p q (prob p).
Proof.
  intros T p q Hp Hq. unfold weighted_tv, SumPrefixes. induction T as [|T IH].
  - unfold tvd, TV, Div, tv. simpl. rewrite Rminus_diag_eq, Rabs_R0 by reflexivity. lra.
  - simpl Steps. assert (H := tvd_last_step T p q Hp Hq). lra.
Qed.

(** Eqn. 37: the same with the models exchanged. *)
Theorem tvd_student_bound : forall T p q, is_model V p -> is_model V q ->
  tvd V T p q <= weighted_tv V T p q (prob q).
Proof.
  intros T p q Hp Hq. unfold tvd. rewrite TV_sym.
  eapply Rle_trans; [apply (tvd_teacher_bound T q p Hq Hp)|].
  right. apply SumPrefixes_ext. intros s _. rewrite TV_sym. reflexivity.
Qed.

Lemma weighted_tv_average : forall T p q,
  weighted_tv V T p q (fun s => / 2 * (prob p s + prob q s))
  = / 2 * weighted_tv V T p q (prob p) + / 2 * weighted_tv V T p q (prob q).
Proof.
  intros T p q. unfold weighted_tv. rewrite <- !SumPrefixes_scal, <- SumPrefixes_plus.
  apply SumPrefixes_ext. intros s _. ring.
Qed.

(** Eqn. 25: the average of Eqns. 36 and 37. *)
Theorem tvd_paper_bound : forall T p q, is_model V p -> is_model V q ->
  tvd V T p q <= weighted_tv V T p q (fun s => / 2 * (prob p s + prob q s)).
Proof.
  intros T p q Hp Hq. rewrite weighted_tv_average.
  assert (A := tvd_teacher_bound T p q Hp Hq). assert (B := tvd_student_bound T p q Hp Hq). lra.
Qed.

(** Eqn. 25 as the losses of Eqns. 9-10 compute it: a quarter of the l1 distance per
    step, on teacher samples y and on student samples y'. *)
Theorem tvd_paper_bound_expectation : forall T p q, is_model V p -> is_model V q ->
  tvd V T p q
  <= Sum V T (fun y => prob p y * Steps T (fun t =>
       / 4 * Rsum V (fun v => Rabs (q (upto T t y) v - p (upto T t y) v))))
   + Sum V T (fun y => prob q y * Steps T (fun t =>
       / 4 * Rsum V (fun v => Rabs (q (upto T t y) v - p (upto T t y) v)))).
Proof.
  intros T p q Hp Hq.
  rewrite (one_sample_serves_every_step V p T (fun s => / 4 * Rsum V (fun v => Rabs (q s v - p s v))) Hp).
  rewrite (one_sample_serves_every_step V q T (fun s => / 4 * Rsum V (fun v => Rabs (q s v - p s v))) Hq).
  eapply Rle_trans; [apply (tvd_paper_bound T p q Hp Hq)|].
  rewrite weighted_tv_average. unfold weighted_tv. rewrite <- !SumPrefixes_scal.
  assert (E : forall s, TV V (p s) (q s) = / 2 * Rsum V (fun v => Rabs (q s v - p s v))).
  { intros s. rewrite <- Rsum_scal. apply Rsum_ext. intros v _. unfold tv.
    rewrite Rabs_minus_sym. reflexivity. }
  right. f_equal; apply SumPrefixes_ext; intros s _; rewrite E; lra.
Qed.

(** ** The overlap bound *)

(** TVD <= sum_s min(P(s), Q(s)) tv(s): only prefixes that both models may write
    can still cost anything. *)
Theorem tvd_overlap_bound : forall T p q, is_model V p -> is_model V q ->
  tvd V T p q <= weighted_tv V T p q (overlap p q).
Proof.
  intros T p q Hp Hq. unfold tvd. rewrite tvd_chain_rule by assumption.
  apply SumPrefixes_le. intros s _. fold (overlap p q s).
  rewrite (TV_overlap V (p s) (q s) (proj2 Hp s) (proj2 Hq s)).
  rewrite Rmult_minus_distr_l, Rmult_1_r. apply Rplus_le_compat_l, Ropp_le_contravar.
  rewrite <- Rsum_scal. apply Rsum_le. intros v _. rewrite Rmult_comm.
  apply Rmin_mult_le; try apply Hp; try apply Hq; eapply prob_nonneg; eassumption.
Qed.

Lemma weighted_tv_le : forall T p q a b, (forall s, incl s V -> a s <= b s) ->
  weighted_tv V T p q a <= weighted_tv V T p q b.
Proof.
  intros T p q a b H. apply SumPrefixes_le. intros s Hs.
  apply Rmult_le_compat_r; [apply TV_nonneg | apply H, Hs].
Qed.

(** Any weight from the overlap upwards gives a bound: between overlap and paper,
    power means of P(s) and Q(s), ... *)
Theorem tvd_any_weight_above_overlap : forall T p q a, is_model V p -> is_model V q ->
  (forall s, incl s V -> overlap p q s <= a s) -> tvd V T p q <= weighted_tv V T p q a.
Proof.
  intros T p q a Hp Hq H.
  eapply Rle_trans; [apply tvd_overlap_bound; assumption | apply weighted_tv_le, H].
Qed.

(** ** The product bound *)

Lemma kappa_nonneg : forall p q s, is_model V p -> is_model V q -> 0 <= kappa p q s.
Proof.
  intros p q s Hp Hq. induction s as [|v s IH]; simpl; [lra|].
  apply Rmult_le_pos; [apply Rmin_glb; [apply Hp | apply Hq] | exact IH].
Qed.

Lemma kappa_le_overlap : forall p q s, is_model V p -> is_model V q ->
  kappa p q s <= overlap p q s.
Proof.
  intros p q s Hp Hq. induction s as [|v s IH]; simpl.
  - unfold overlap. simpl. apply Rmin_glb; lra.
  - eapply Rle_trans; [|apply Rmin_mult_le].
    + apply Rmult_le_compat_l; [apply Rmin_glb; [apply Hp | apply Hq] | exact IH].
    + apply Hp.
    + apply Hq.
    + apply (prob_nonneg V), Hp.
    + apply (prob_nonneg V), Hq.
Qed.

(** One minus the probability that every drafted token is accepted, step by step. *)
Theorem product_chain_rule : forall T p q, is_model V p -> is_model V q ->
  1 - Sum V T (kappa p q) = weighted_tv V T p q (kappa p q).
Proof.
  intros T p q Hp Hq. rewrite telescope. simpl kappa at 1.
  replace (1 - (1 + SumPrefixes V T (fun s => Rsum V (fun v => kappa p q (v :: s)) - kappa p q s)))
    with (-1 * SumPrefixes V T (fun s => Rsum V (fun v => kappa p q (v :: s)) - kappa p q s)) by ring.
  rewrite <- SumPrefixes_scal. apply SumPrefixes_ext. intros s _. simpl kappa.
  rewrite (TV_overlap V (p s) (q s) (proj2 Hp s) (proj2 Hq s)), Rsum_scal_r. ring.
Qed.

(** TVD = 1 - total overlap. *)
Theorem tvd_is_lost_overlap : forall T p q, is_model V p -> is_model V q ->
  tvd V T p q = 1 - Sum V T (overlap p q).
Proof.
  intros T p q Hp Hq. apply TV_overlap; [apply (total_prob V p T Hp) | apply (total_prob V q T Hq)].
Qed.

(** The product bound, which never exceeds 1. *)
Theorem tvd_product_bound : forall T p q, is_model V p -> is_model V q ->
  tvd V T p q <= 1 - Sum V T (kappa p q)
  /\ 1 - Sum V T (kappa p q) = weighted_tv V T p q (kappa p q)
  /\ weighted_tv V T p q (kappa p q) <= 1.
Proof.
  intros T p q Hp Hq. split; [|split].
  - rewrite tvd_is_lost_overlap by assumption.
    apply Rplus_le_compat_l, Ropp_le_contravar, Rsum_le. intros y _. apply kappa_le_overlap; assumption.
  - apply product_chain_rule; assumption.
  - rewrite <- product_chain_rule by assumption.
    assert (0 <= Sum V T (kappa p q)) by (apply Rsum_nonneg; intros y _; apply kappa_nonneg; assumption).
    lra.
Qed.

Theorem tvd_le_1 : forall T p q, is_model V p -> is_model V q -> 0 <= tvd V T p q <= 1.
Proof.
  intros T p q Hp Hq. split; [apply TV_nonneg|]. rewrite tvd_is_lost_overlap by assumption.
  assert (0 <= Sum V T (overlap p q)) by (apply Rsum_nonneg; intros y _; apply overlap_nonneg; assumption).
  lra.
Qed.

(** ** The order among the bounds *)

Theorem tvd_order : forall T p q, is_model V p -> is_model V q ->
  tvd V T p q <= weighted_tv V T p q (kappa p q)
  /\ weighted_tv V T p q (kappa p q) <= weighted_tv V T p q (overlap p q)
  /\ weighted_tv V T p q (overlap p q)
     <= Rmin (weighted_tv V T p q (prob p)) (weighted_tv V T p q (prob q))
  /\ Rmin (weighted_tv V T p q (prob p)) (weighted_tv V T p q (prob q))
     <= weighted_tv V T p q (fun s => / 2 * (prob p s + prob q s)).
Proof.
  intros T p q Hp Hq. destruct (tvd_product_bound T p q Hp Hq) as [A [B _]].
  split; [|split; [|split]].
  - lra.
  - apply weighted_tv_le. intros s _. apply kappa_le_overlap; assumption.
  - apply Rmin_glb; apply weighted_tv_le; intros s _; [apply Rmin_l | apply Rmin_r].
  - rewrite weighted_tv_average.
    assert (L := Rmin_l (weighted_tv V T p q (prob p)) (weighted_tv V T p q (prob q))).
    assert (R := Rmin_r (weighted_tv V T p q (prob p)) (weighted_tv V T p q (prob q))). lra.
Qed.

End TotalVariation.

(** ** The overlap is the least weight *)

(** Two tokens, two steps: the first token has probability P under the teacher and
    Q under the student; after it the models are disjoint, after the other one equal. *)
Definition pL (P : R) : model bool := fun s v =>
  match s with
  | [] => if v then P else 1 - P
  | _ => if v then 1 else 0
  end.

Definition qL (Q : R) : model bool := fun s v =>
  match s with
  | [] => if v then Q else 1 - Q
  | true :: _ => if v then 0 else 1
  | false :: _ => if v then 1 else 0
  end.

Lemma overlap_is_least_half : forall (a : R -> R -> R), a 1 1 = 1 ->
  (forall p q, is_model [true; false] p -> is_model [true; false] q ->
     tvd [true; false] 2 p q <= weighted_tv [true; false] 2 p q (fun s => a (prob p s) (prob q s))) ->
  forall P Q, 0 <= P <= 1 -> 0 <= Q <= 1 -> Rmin P Q <= a P Q.
Proof.
  intros a a1 H P Q HP HQ.
  assert (Mp : is_model [true; false] (pL P)).
  { split; [intros [|u s] [|] | intros [|u s]]; simpl; lra. }
  assert (Mq : is_model [true; false] (qL Q)).
  { split; [intros [|[|] s] [|] | intros [|[|] s]]; simpl; lra. }
  specialize (H _ _ Mp Mq). rewrite tvd_is_lost_overlap in H by assumption.
  unfold weighted_tv, SumPrefixes, Sum, overlap, TV, Div, tv in H. simpl in H.
  rewrite a1 in H.
  rewrite ?Rmult_1_l, ?Rmult_0_l, ?Rmult_1_r, ?Rmult_0_r, ?Rplus_0_r, ?Rplus_0_l in H.
  replace (1 - P - (1 - Q)) with (- (P - Q)) in H by ring.
  rewrite Rabs_Ropp, (Rmin_right P 0), (Rmin_left 0 Q), (Rmin_left 0 0) in H by lra.
  rewrite (Rabs_right (1 - 0)), (Rabs_left1 (0 - 1)), (Rabs_right (1 - 1)),
    (Rabs_right (0 - 0)) in H by lra.
  destruct (Rle_dec P Q) as [L|L].
  - rewrite Rabs_left1, (Rmin_right (1 - P)) in H by lra. rewrite Rmin_left by lra. lra.
  - rewrite Rabs_right, (Rmin_left (1 - P)) in H by lra. rewrite Rmin_right by lra. lra.
Qed.

(** Among the weights a(P(s), Q(s)) with a(1,1) = 1 that always give a bound, the
    overlap is the least. *)
Theorem overlap_is_least : forall (a : R -> R -> R), a 1 1 = 1 ->
  (forall (V : list bool) T p q, is_model V p -> is_model V q ->
     tvd V T p q <= weighted_tv V T p q (fun s => a (prob p s) (prob q s))) ->
  forall P Q, 0 <= P <= 1 -> 0 <= Q <= 1 -> Rmin P Q <= a P Q.
Proof.
  intros a a1 H. apply overlap_is_least_half; [exact a1|]. intros p q Hp Hq. apply H; assumption.
Qed.
