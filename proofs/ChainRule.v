(** * ChainRule: sequence-level divergences are sums of step-wise terms

    Wen et al. (2023), Theorem 1a and its proof (Eqns. 13-22), for every finite
    vocabulary V and every length T; and the same for an arbitrary f-divergence.

    Definitions
      [seqDiv phi V T p q]   the divergence of the laws of T tokens
                             (Eqn. 4 with y a sequence)
      [increment phi V p q s]  what one more token after s adds to it
      [shift f r]            the generator f_r(t) = f(r t) - f(r)

    Main results
      [f_chain_rule]           D_f(P||Q) = sum over prefixes of the increments
      [f_chain_rule_shifted]   the increment is Q(s) D_{f_r}(p(.|s) || q(.|s)) with
                               r = P(s)/Q(s): a word-level f-divergence
      [f_chain_rule_terms_nonneg]  each increment is >= 0 for convex f
      [f_divergence_monotone]  so D_f of prefixes never falls as T grows
      [f_sequence_divergence_nonneg]
      [shift_convex]           f_r is convex where f is, and f_r(1) = 0
      [convex_f_chain_rule_positive], [convex_f_chain_rule_dominated],
      [convex_f_chain_rule_nonneg]   all of the above for a user's own convex f: positive
                               models; zeros where Q dominates P; zeros anywhere
      [kl_chain_rule], [kl_chain_rule_expectation]     Eqn. 21
      [rkl_chain_rule], [rkl_chain_rule_expectation]   Eqn. 22
      [tvd_chain_rule]         total variation, exactly
      [kl_instance], [rkl_instance], [js_instance], [tvd_instance]
                               the four objectives are instances of [f_chain_rule]
                               with non-negative terms, monotone in T *)

Require Import Reals List Lra Lia.
Require Import FDistill.Sequences FDistill.Divergences.
Import ListNotations.
Open Scope R_scope.

Definition seqDiv (phi : R -> R -> R) {token : Type} (V : list token) (T : nat)
  (p q : model token) : R := Div phi (sequences V T) (prob p) (prob q).

Definition increment (phi : R -> R -> R) {token : Type} (V : list token)
  (p q : model token) (s : list token) : R :=
  Rsum V (fun v => phi (prob p (v :: s)) (prob q (v :: s))) - phi (prob p s) (prob q s).

Definition shift (f : R -> R) (r t : R) : R := f (r * t) - f r.

Section ChainRule.
Context {token : Type} (V : list token).
Implicit Types (p q : model token) (s : list token).

(** ** Any f *)

(** The chain rule of an arbitrary f: the sum telescopes and phi(1,1) = f(1) = 0. *)
Theorem f_chain_rule : forall phi T p q, phi 1 1 = 0 ->
  seqDiv phi V T p q = SumPrefixes V T (increment phi V p q).
Proof.
  intros phi T p q P1. unfold seqDiv, Div, increment.
  change (Rsum (sequences V T) (fun y => phi (prob p y) (prob q y)))
    with (Sum V T (fun y => phi (prob p y) (prob q y))).
  rewrite telescope. simpl prob at 1 2. rewrite P1. lra.
Qed.

(** Each step-wise term is non-negative (Jensen). *)
Theorem f_chain_rule_terms_nonneg : forall C phi p q, cone C -> subadditive C phi ->
  is_model V p -> is_model V q -> (forall s, C (prob p s) (prob q s)) ->
  forall s, 0 <= increment phi V p q s.
Proof.
  intros C phi p q HC Hphi Hp Hq H s. unfold increment.
  assert (J := jensen C phi HC Hphi V (fun v => prob p (v :: s)) (fun v => prob q (v :: s))).
  rewrite !marginal in J by assumption.
  assert (phi (prob p s) (prob q s)
    <= Div phi V (fun v => prob p (v :: s)) (fun v => prob q (v :: s))).
  { apply J. intros v _. apply H. }
  unfold Div in *. lra.
Qed.

(** D_f of the first T tokens never falls as T grows. *)
Theorem f_divergence_monotone : forall C phi p q, cone C -> subadditive C phi ->
  is_model V p -> is_model V q -> (forall s, C (prob p s) (prob q s)) ->
  forall T T', (T <= T')%nat -> seqDiv phi V T p q <= seqDiv phi V T' p q.
Proof.
  intros C phi p q HC Hphi Hp Hq H T T' HT. induction HT as [|T' HT IH]; [lra|].
  eapply Rle_trans; [exact IH|]. unfold seqDiv, Div.
  change (Sum V T' (fun y => phi (prob p y) (prob q y))
    <= Sum V (S T') (fun y => phi (prob p y) (prob q y))).
  rewrite Sum_S. apply Rsum_le. intros s _.
  assert (N := f_chain_rule_terms_nonneg C phi p q HC Hphi Hp Hq H s).
  unfold increment in N. lra.
Qed.

Theorem f_sequence_divergence_nonneg : forall C phi p q, cone C -> subadditive C phi ->
  phi 1 1 = 0 -> is_model V p -> is_model V q -> (forall s, C (prob p s) (prob q s)) ->
  forall T, 0 <= seqDiv phi V T p q.
Proof.
  intros C phi p q HC Hphi P1 Hp Hq H T. apply f_divergence_nonneg with C; try assumption.
  - intros y _. apply H.
  - apply (total_prob V p T Hp).
  - apply (total_prob V q T Hq).
Qed.

(** The increment is a word-level f-divergence with the shifted generator
    f_r(t) = f(r t) - f(r), r = P(s)/Q(s), whose slope at infinity is r L:
    D_f(P||Q) = sum_s Q(s) D_{f_r}(p(.|s) || q(.|s)), prefixes from the student.
    Where Q(s) = 0 but P(s) > 0 both sides are 0: f counts the mass P(s) L that
    left the student's support once, at the step where it left. *)
Theorem f_chain_rule_shifted : forall f L p q s, is_model V p -> is_model V q ->
  increment (perspective f L) V p q s
  = prob q s * Div (perspective (shift f (prob p s / prob q s)) (prob p s / prob q s * L))
                   V (p s) (q s).
Proof.
  intros f L p q s [Hp0 Hp] [Hq0 Hq]. unfold increment, Div. simpl prob.
  set (P := prob p s). set (Q := prob q s).
  destruct (Req_dec Q 0) as [E|E].
  - rewrite E, perspective_0, Rmult_0_l.
    rewrite (Rsum_ext V _ (fun v => p s v * (P * L))).
    + rewrite Rsum_scal_r, Hp. ring.
    + intros v _. rewrite Rmult_0_r, perspective_0. ring.
  - rewrite (perspective_pos f L P Q E).
    replace (Q * f (P / Q)) with (Rsum V (fun v => q s v * (Q * f (P / Q))))
      by (rewrite Rsum_scal_r, Hq; ring).
    rewrite <- Rsum_minus, <- Rsum_scal. apply Rsum_ext. intros v _.
    destruct (Req_dec (q s v) 0) as [F|F].
    + rewrite F, Rmult_0_l, !perspective_0. field. exact E.
    + rewrite !perspective_pos by (try apply Rmult_integral_contrapositive_currified; assumption).
      unfold shift. replace (p s v * P / (q s v * Q)) with (P / Q * (p s v / q s v))
        by (field; split; assumption). ring.
Qed.

(** The shifted generator is itself a generator. *)
Theorem shift_convex : forall f r, 0 <= r -> convex_on (fun t => 0 <= t) f ->
  convex_on (fun t => 0 <= t) (shift f r) /\ shift f r 1 = 0.
Proof.
  intros f r Hr Hf. split; [|unfold shift; rewrite Rmult_1_r; ring].
  intros x y t Dx Dy Ht. unfold shift.
  replace (r * (t * x + (1 - t) * y)) with (t * (r * x) + (1 - t) * (r * y)) by ring.
  assert (H := Hf (r * x) (r * y) t (Rmult_le_pos _ _ Hr Dx) (Rmult_le_pos _ _ Hr Dy) Ht). lra.
Qed.

(** The three theorems above, together, for the perspective of f on a cone. *)
Lemma convex_f_on_cone : forall C f L p q, cone C -> subadditive C (perspective f L) ->
  f 1 = 0 -> is_model V p -> is_model V q -> (forall s, C (prob p s) (prob q s)) ->
  forall T, seqDiv (perspective f L) V T p q
    = SumPrefixes V T (fun s => prob q s *
        Div (perspective (shift f (prob p s / prob q s)) (prob p s / prob q s * L)) V (p s) (q s))
  /\ (forall s, 0 <= prob q s *
        Div (perspective (shift f (prob p s / prob q s)) (prob p s / prob q s * L)) V (p s) (q s))
  /\ forall T', (T <= T')%nat -> seqDiv (perspective f L) V T p q <= seqDiv (perspective f L) V T' p q.
Proof.
  intros C f L p q HC Sub F1 Hp Hq H T.
  assert (One : perspective f L 1 1 = 0).
  { rewrite perspective_pos by lra. replace (1 / 1) with 1 by field. rewrite F1. ring. }
  split; [|split].
  - rewrite f_chain_rule by exact One. apply SumPrefixes_ext. intros s _.
    apply f_chain_rule_shifted; assumption.
  - intros s. rewrite <- f_chain_rule_shifted by assumption.
    apply f_chain_rule_terms_nonneg with C; assumption.
  - intros T' HT. apply f_divergence_monotone with C; assumption.
Qed.

(** Step-wise, exactly, for a user's own convex f on (0, oo): positive models. *)
Theorem convex_f_chain_rule_positive : forall f p q,
  convex_on (fun t => 0 < t) f -> f 1 = 0 -> is_model V p -> is_model V q ->
  (forall s v, 0 < p s v) -> (forall s v, 0 < q s v) ->
  forall T, seqDiv (perspective f 0) V T p q
    = SumPrefixes V T (fun s => prob q s *
        Div (perspective (shift f (prob p s / prob q s)) (prob p s / prob q s * 0)) V (p s) (q s))
  /\ (forall s, 0 <= prob q s *
        Div (perspective (shift f (prob p s / prob q s)) (prob p s / prob q s * 0)) V (p s) (q s))
  /\ forall T', (T <= T')%nat -> seqDiv (perspective f 0) V T p q <= seqDiv (perspective f 0) V T' p q.
Proof.
  intros f p q Hf F1 Hp Hq Pp Pq T.
  assert (Pos : forall m, (forall s v, 0 < m s v) -> forall s, 0 < prob (token := token) m s).
  { intros m Hm s. induction s as [|v s IH]; simpl; [lra | apply Rmult_lt_0_compat; auto]. }
  apply convex_f_on_cone with positive_cone; try assumption.
  - apply positive_cone_cone.
  - apply convex_subadditive_positive, Hf.
  - intros s. left. auto.
Qed.

(** For f convex on [0, oo), whatever its slope at infinity, where the teacher can
    write nothing that the student cannot (chi-square, KL). *)
Theorem convex_f_chain_rule_dominated : forall f p q,
  convex_on (fun t => 0 <= t) f -> f 1 = 0 -> is_model V p -> is_model V q -> dominated p q ->
  forall T, seqDiv (perspective f 0) V T p q
    = SumPrefixes V T (fun s => prob q s *
        Div (perspective (shift f (prob p s / prob q s)) (prob p s / prob q s * 0)) V (p s) (q s))
  /\ (forall s, 0 <= prob q s *
        Div (perspective (shift f (prob p s / prob q s)) (prob p s / prob q s * 0)) V (p s) (q s))
  /\ forall T', (T <= T')%nat -> seqDiv (perspective f 0) V T p q <= seqDiv (perspective f 0) V T' p q.
Proof.
  intros f p q Hf F1 Hp Hq Hd T. apply convex_f_on_cone with dominated_cone; try assumption.
  - apply dominated_cone_cone.
  - apply convex_subadditive_dominated, Hf.
  - intros s. split; [|split; [|apply Hd]]; apply (prob_nonneg V); assumption.
Qed.

(** For f convex on [0, oo) with slopes at most L: any models, zeros on either side
    and an absorbing EOS included (JS, TVD, Hellinger). *)
Theorem convex_f_chain_rule_nonneg : forall f L p q,
  convex_on (fun t => 0 <= t) f ->
  (forall x y, 0 <= x -> x <= y -> f y - f x <= L * (y - x)) ->
  f 1 = 0 -> is_model V p -> is_model V q ->
  forall T, seqDiv (perspective f L) V T p q
    = SumPrefixes V T (fun s => prob q s *
        Div (perspective (shift f (prob p s / prob q s)) (prob p s / prob q s * L)) V (p s) (q s))
  /\ (forall s, 0 <= prob q s *
        Div (perspective (shift f (prob p s / prob q s)) (prob p s / prob q s * L)) V (p s) (q s))
  /\ forall T', (T <= T')%nat -> seqDiv (perspective f L) V T p q <= seqDiv (perspective f L) V T' p q.
Proof.
  intros f L p q Hf HL F1 Hp Hq T. apply convex_f_on_cone with nonneg_cone; try assumption.
  - apply nonneg_cone_cone.
  - apply convex_subadditive_nonneg; assumption.
  - intros s; split; apply (prob_nonneg V); assumption.
Qed.

(** ** Kullback-Leibler, both directions *)

Lemma kl_mult : forall P Q a b, 0 <= P -> 0 <= Q -> 0 <= a -> 0 <= b ->
  (b * Q = 0 -> a * P = 0) -> kl (a * P) (b * Q) = a * kl P Q + P * kl a b.
Proof.
  intros P Q a b HP HQ Ha Hb Z. unfold kl.
  destruct (Req_dec a 0) as [->|Na]; [ring|]. destruct (Req_dec P 0) as [->|NP]; [ring|].
  assert (NbQ : b * Q <> 0).
  { intros E. apply Z in E. apply Rmult_integral in E. tauto. }
  assert (b <> 0 /\ Q <> 0) as [Nb NQ] by (split; intros ->; apply NbQ; ring).
  replace (a * P / (b * Q)) with (P / Q * (a / b)) by (field; auto).
  rewrite ln_mult by (apply Rdiv_lt_0_compat; lra). ring.
Qed.

(** The step of the induction: KL of the laws grows by P(s) KL(p(.|s)||q(.|s)). *)
Lemma kl_increment : forall p q s, is_model V p -> is_model V q -> dominated p q ->
  increment kl V p q s = prob p s * KL V (p s) (q s).
Proof.
  intros p q s Hp Hq Hd. unfold increment, KL, Div.
  rewrite (Rsum_ext V _ (fun v => p s v * kl (prob p s) (prob q s)
                                  + prob p s * kl (p s v) (q s v))).
  - rewrite Rsum_plus, Rsum_scal_r, Rsum_scal, (proj2 Hp). lra.
  - intros v _. simpl prob. apply kl_mult.
    + apply (prob_nonneg V); assumption.
    + apply (prob_nonneg V); assumption.
    + apply (proj1 Hp).
    + apply (proj1 Hq).
    + exact (Hd (v :: s)).
Qed.

(** Theorem 1a for KL (Eqn. 21), as a sum over prefixes. *)
Theorem kl_chain_rule : forall T p q, is_model V p -> is_model V q -> dominated p q ->
  KL (sequences V T) (prob p) (prob q)
  = SumPrefixes V T (fun s => prob p s * KL V (p s) (q s)).
Proof.
  intros T p q Hp Hq Hd. change (KL (sequences V T) (prob p) (prob q)) with (seqDiv kl V T p q).
  rewrite f_chain_rule by (apply kl_same; lra).
  apply SumPrefixes_ext. intros s _. apply kl_increment; assumption.
Qed.

(** Theorem 1a for KL (Eqn. 21), as the expectation over teacher samples of the
    loss of Eqn. 6. *)
Theorem kl_chain_rule_expectation : forall T p q,
  is_model V p -> is_model V q -> dominated p q ->
  KL (sequences V T) (prob p) (prob q)
  = Sum V T (fun y => prob p y * Steps T (fun t => KL V (p (upto T t y)) (q (upto T t y)))).
Proof.
  intros T p q Hp Hq Hd. rewrite kl_chain_rule by assumption.
  symmetry. apply (one_sample_serves_every_step V p T (fun s => KL V (p s) (q s)) Hp).
Qed.

(** Theorem 1a for RKL (Eqn. 22), as a sum over prefixes. *)
Theorem rkl_chain_rule : forall T p q, is_model V p -> is_model V q -> dominated q p ->
  seqDiv rkl V T p q = SumPrefixes V T (fun s => prob q s * KL V (q s) (p s)).
Proof.
  intros T p q Hp Hq Hd. unfold seqDiv, Div, rkl. exact (kl_chain_rule T q p Hq Hp Hd).
Qed.

(** Theorem 1a for RKL (Eqn. 22), as the expectation over student samples of the
    loss of Eqn. 7. *)
Theorem rkl_chain_rule_expectation : forall T p q,
  is_model V p -> is_model V q -> dominated q p ->
  seqDiv rkl V T p q
  = Sum V T (fun y => prob q y * Steps T (fun t => KL V (q (upto T t y)) (p (upto T t y)))).
Proof.
  intros T p q Hp Hq Hd. rewrite rkl_chain_rule by assumption.
  symmetry. apply (one_sample_serves_every_step V q T (fun s => KL V (q s) (p s)) Hq).
Qed.

(** ** Total variation, exactly *)

Lemma tv_min : forall a b, tv a b = / 2 * (a + b) - Rmin a b.
Proof.
  intros a b. unfold tv. destruct (Rle_dec a b) as [H|H].
  - rewrite Rmin_left, Rabs_left1 by lra. lra.
  - rewrite Rmin_right, Rabs_right by lra. lra.
Qed.

(** TVD(P,Q) = sum_s [ min(P,Q)(s) - sum_v min(P(s) p(v|s), Q(s) q(v|s)) ]. *)
Theorem tvd_chain_rule : forall T p q, is_model V p -> is_model V q ->
  TV (sequences V T) (prob p) (prob q)
  = SumPrefixes V T (fun s => Rmin (prob p s) (prob q s)
      - Rsum V (fun v => Rmin (p s v * prob p s) (q s v * prob q s))).
Proof.
  intros T p q Hp Hq. change (TV (sequences V T) (prob p) (prob q)) with (seqDiv tv V T p q).
  rewrite f_chain_rule by (unfold tv; rewrite Rminus_diag_eq, Rabs_R0 by reflexivity; ring).
  apply SumPrefixes_ext. intros s _. unfold increment.
  rewrite (Rsum_ext V _ (fun v => / 2 * (prob p (v :: s) + prob q (v :: s))
     - Rmin (prob p (v :: s)) (prob q (v :: s)))) by (intros v _; apply tv_min).
  rewrite Rsum_minus, Rsum_scal, Rsum_plus, !marginal, tv_min by assumption.
  simpl prob. ring.
Qed.

(** ** The four objectives are instances *)

Lemma dominated_pair : forall p q, is_model V p -> is_model V q -> dominated p q ->
  forall s, dominated_cone (prob p s) (prob q s).
Proof.
  intros p q Hp Hq Hd s. split; [|split].
  - apply (prob_nonneg V); assumption.
  - apply (prob_nonneg V); assumption.
  - apply Hd.
Qed.

Lemma nonneg_pair : forall p q, is_model V p -> is_model V q ->
  forall s, nonneg_cone (prob p s) (prob q s).
Proof. intros p q Hp Hq s. split; apply (prob_nonneg V); assumption. Qed.

Theorem kl_instance : forall p q, is_model V p -> is_model V q -> dominated p q ->
  (forall s, 0 <= increment kl V p q s) /\
  (forall T, 0 <= seqDiv kl V T p q) /\
  (forall T T', (T <= T')%nat -> seqDiv kl V T p q <= seqDiv kl V T' p q).
Proof.
  intros p q Hp Hq Hd. assert (H := dominated_pair p q Hp Hq Hd).
  split; [|split].
  - apply (f_chain_rule_terms_nonneg dominated_cone kl); auto using dominated_cone_cone, kl_subadditive.
  - apply (f_sequence_divergence_nonneg dominated_cone kl);
      auto using dominated_cone_cone, kl_subadditive. apply kl_same; lra.
  - apply (f_divergence_monotone dominated_cone kl); auto using dominated_cone_cone, kl_subadditive.
Qed.

Theorem rkl_instance : forall p q, is_model V p -> is_model V q -> dominated q p ->
  (forall s, 0 <= increment rkl V p q s) /\
  (forall T, 0 <= seqDiv rkl V T p q) /\
  (forall T T', (T <= T')%nat -> seqDiv rkl V T p q <= seqDiv rkl V T' p q).
Proof. intros p q Hp Hq Hd. exact (kl_instance q p Hq Hp Hd). Qed.

Theorem js_instance : forall w p q, 0 < w -> w < 1 -> is_model V p -> is_model V q ->
  (forall T, seqDiv (js w) V T p q = SumPrefixes V T (increment (js w) V p q)) /\
  (forall s, 0 <= increment (js w) V p q s) /\
  (forall T, 0 <= seqDiv (js w) V T p q) /\
  (forall T T', (T <= T')%nat -> seqDiv (js w) V T p q <= seqDiv (js w) V T' p q).
Proof.
  intros w p q Hw Hw1 Hp Hq. assert (H := nonneg_pair p q Hp Hq).
  assert (Sub := js_subadditive w Hw Hw1).
  assert (One : js w 1 1 = 0) by exact (proj2 (proj1 (proj2 (proj2 generators_convex)) w Hw Hw1)).
  split; [|split; [|split]].
  - intros T. apply f_chain_rule. exact One.
  - apply (f_chain_rule_terms_nonneg nonneg_cone); auto using nonneg_cone_cone.
  - apply (f_sequence_divergence_nonneg nonneg_cone); auto using nonneg_cone_cone.
  - apply (f_divergence_monotone nonneg_cone); auto using nonneg_cone_cone.
Qed.

Theorem tvd_instance : forall p q, is_model V p -> is_model V q ->
  (forall s, 0 <= increment tv V p q s) /\
  (forall T, 0 <= seqDiv tv V T p q) /\
  (forall T T', (T <= T')%nat -> seqDiv tv V T p q <= seqDiv tv V T' p q).
Proof.
  intros p q Hp Hq. assert (H := nonneg_pair p q Hp Hq).
  split; [|split].
  - apply (f_chain_rule_terms_nonneg nonneg_cone); auto using nonneg_cone_cone, tv_subadditive.
  - apply (f_sequence_divergence_nonneg nonneg_cone); auto using nonneg_cone_cone, tv_subadditive.
    unfold tv. rewrite Rminus_diag_eq, Rabs_R0 by reflexivity. ring.
  - apply (f_divergence_monotone nonneg_cone); auto using nonneg_cone_cone, tv_subadditive.
Qed.

End ChainRule.
