(** * Gradients: what the step-wise loss leaves out, and when nothing is left out

    Wen et al. (2023) optimise the losses of Eqns. 5-10 step by step and note that,
    where prefixes are sampled from the student, this leaves out the gradient of the
    sampling distribution.  Here the missing part is written down and proved.

    A student depends on one real parameter x (a gradient is made of such partial
    derivatives); [q x s v] is its conditional and [dq s v] the derivative at x0.
    Nothing else is assumed of the parametrisation; [softmax_student] shows that
    tables of logits, moved in any direction, satisfy the assumptions.  Derivatives
    are the standard library's [derivable_pt_lim], written [D f x l].

    Definitions
      [score s v]              derivative of log q(v|s)
      [path_score s]           derivative of log Q(s): the sum of scores along s
      [score_at T t y]         derivative of log q(y_t | y_<t) for a sequence y
      [after T t F]            F (t+1) + ... + F (T-1)
      [softmax z d]            conditionals of the logits z + x d

    Main results
      [full_gradient]          d/dx E_{y~q} sum_t l_t = step-wise part + score part
      [score_part]             the score part is E_{y~q} sum_t score_t sum_{j>t} l_j
      [baseline_free]          a function of y_<t may be subtracted from the return
      [rkl_full_gradient]      the case of RKL (Eqn. 22)
      [envelope]               both JS halves together are stationary in the middle
      [js_stepwise_gradient]   so the step-wise gradient of exact JS does not depend on
                               what is held constant in the middle, in both halves
      [js_full_gradient]       the full one: (1-pi) E_{y~q}[grad log Q(y) log(Q/M)]
      [teacher_expectation_gradient]  over teacher samples the gradient of the mean is
                               the mean of the gradients: no score part
      [js_teacher_only_gradient], [overlap_teacher_only_gradient],
      [tvd_teacher_only_gradient]     so JS, overlap bound and exact TVD have their
                               full gradient from teacher samples alone
      [softmax_student]        softmax tables are such students *)

Require Import Reals List Lra Lia.
Require Import FDistill.Sequences FDistill.Divergences FDistill.ChainRule.
Require Import FDistill.JensenShannon FDistill.TotalVariation FDistill.Estimators.
Import ListNotations.
Open Scope R_scope.

Notation D := derivable_pt_lim.

(** ** Rules of differentiation, for functions written out *)

Lemma D_ext : forall f g x l, (forall z, f z = g z) -> D f x l -> D g x l.
Proof.
  intros f g x l E H eps Heps. destruct (H eps Heps) as [d Hd]. exists d.
  intros h Hh Hd'. rewrite <- !E. apply Hd; assumption.
Qed.

Lemma D_eq : forall f x l l', l = l' -> D f x l -> D f x l'.
Proof. intros f x l l' <- H. exact H. Qed.

Lemma D_const : forall c x, D (fun _ => c) x 0.
Proof. intros c x. exact (derivable_pt_lim_const c x). Qed.

Lemma D_plus : forall f g x l k, D f x l -> D g x k -> D (fun z => f z + g z) x (l + k).
Proof. intros f g x l k Hf Hg. exact (derivable_pt_lim_plus f g x l k Hf Hg). Qed.

Lemma D_mult : forall f g x l k, D f x l -> D g x k ->
  D (fun z => f z * g z) x (l * g x + f x * k).
Proof. intros f g x l k Hf Hg. exact (derivable_pt_lim_mult f g x l k Hf Hg). Qed.

Lemma D_scal : forall c f x l, D f x l -> D (fun z => c * f z) x (c * l).
Proof. intros c f x l H. exact (derivable_pt_lim_scal f c x l H). Qed.

Lemma D_div : forall f g x l k, D f x l -> D g x k -> g x <> 0 ->
  D (fun z => f z / g z) x ((l * g x - k * f x) / (g x)²).
Proof. intros f g x l k Hf Hg N. exact (derivable_pt_lim_div f g x l k Hf Hg N). Qed.

Lemma D_ln : forall f x l, D f x l -> 0 < f x -> D (fun z => ln (f z)) x (l / f x).
Proof.
  intros f x l H P. apply D_eq with (/ f x * l); [unfold Rdiv; ring|].
  exact (derivable_pt_lim_comp f ln x l (/ f x) H (derivable_pt_lim_ln (f x) P)).
Qed.

Lemma D_exp : forall f x l, D f x l -> D (fun z => exp (f z)) x (exp (f x) * l).
Proof.
  intros f x l H. exact (derivable_pt_lim_comp f exp x l (exp (f x)) H (derivable_pt_lim_exp (f x))).
Qed.

Lemma D_Rsum : forall {A : Type} (l : list A) (F : R -> A -> R) (dF : A -> R) x,
  (forall i, In i l -> D (fun z => F z i) x (dF i)) ->
  D (fun z => Rsum l (F z)) x (Rsum l dF).
Proof.
  intros A l F dF x. induction l as [|i l IH]; intros H; [exact (D_const 0 x)|].
  exact (D_plus (fun z => F z i) (fun z => Rsum l (F z)) x (dF i) (Rsum l dF)
    (H i (or_introl eq_refl)) (IH (fun j Hj => H j (or_intror Hj)))).
Qed.

Lemma D_Steps : forall T (F : R -> nat -> R) (dF : nat -> R) x,
  (forall t, D (fun z => F z t) x (dF t)) -> D (fun z => Steps T (F z)) x (Steps T dF).
Proof.
  intros T F dF x H. induction T as [|T IH]; [exact (D_const 0 x)|].
  exact (D_plus (fun z => Steps T (F z)) (fun z => F z T) x (Steps T dF) (dF T) IH (H T)).
Qed.

Lemma D_SumPrefixes : forall {token : Type} (V : list token) T (F : R -> list token -> R)
  (dF : list token -> R) x, (forall s, D (fun z => F z s) x (dF s)) ->
  D (fun z => SumPrefixes V T (F z)) x (SumPrefixes V T dF).
Proof.
  intros token V T F dF x H.
  apply (D_Steps T (fun z t => Sum V t (F z)) (fun t => Sum V t dF)). intros t.
  apply (D_Rsum (sequences V t) F dF). intros s _. apply H.
Qed.

Lemma D_unique : forall f x l k, D f x l -> D f x k -> l = k.
Proof. intros f x l k. exact (uniqueness_limite f x l k). Qed.

(** A function that is never negative has derivative 0 where it is 0. *)
Lemma D_at_zero : forall f x l, D f x l -> (forall z, 0 <= f z) -> f x = 0 -> l = 0.
Proof.
  intros f x l H P E.
  assert (pr : derivable_pt f x) by (exists l; exact H).
  assert (Z := deriv_minimum f (x - 1) (x + 1) x pr ltac:(lra) ltac:(lra)).
  apply (D_unique f x); [exact H|].
  rewrite <- Z; [|intros z _ _; rewrite E; apply P]. exact (proj2_sig pr).
Qed.

(** KL terms: the first argument constant, or both differentiable and positive. *)
Lemma D_kl_right : forall a mu x dmu, 0 <= a -> D mu x dmu -> 0 < mu x ->
  D (fun z => kl a (mu z)) x (- (a * (dmu / mu x))).
Proof.
  intros a mu x dmu Ha H P. destruct (Req_dec a 0) as [->|N].
  - apply D_eq with 0; [ring|]. apply D_ext with (fun _ => 0); [intros; rewrite kl_0_l; reflexivity|].
    apply D_const.
  - unfold kl. apply D_eq with (a * ((0 * mu x - dmu * a) / (mu x)² / (a / mu x))).
    + unfold Rsqr. field. split; [lra | exact N].
    + apply D_scal. apply (D_ln (fun z => a / mu z)).
      * apply (D_div (fun _ => a) mu); [apply D_const | exact H | lra].
      * apply Rdiv_lt_0_compat; lra.
Qed.

Lemma D_kl : forall b mu x db dmu, D b x db -> D mu x dmu -> 0 < b x -> 0 < mu x ->
  D (fun z => kl (b z) (mu z)) x (db * ln (b x / mu x) + db - b x * (dmu / mu x)).
Proof.
  intros b mu x db dmu Hb Hm Pb Pm. unfold kl.
  apply D_eq with (db * ln (b x / mu x)
    + b x * ((db * mu x - dmu * b x) / (mu x)² / (b x / mu x))).
  - unfold Rsqr. field. split; lra.
  - apply (D_mult b (fun z => ln (b z / mu z))); [exact Hb|].
    apply (D_ln (fun z => b z / mu z)).
    + apply D_div; [assumption | assumption | lra].
    + apply Rdiv_lt_0_compat; assumption.
Qed.

(** ** The envelope property *)

(** Teacher family a (constant), student family b, middle mu passing at x0 through
    the mixture of a and b with weights al, be.  The derivative of both KL halves
    together is that with mu held constant: any normalised way in which the middle
    moves (live, detached, or with a live or detached weight) gives the same. *)
Theorem envelope : forall {A : Type} (l : list A) (al be : R) (a : A -> R)
  (b mu : R -> A -> R) (db dmu : A -> R) (x0 : R),
  (forall i, In i l -> 0 <= a i) ->
  (forall i, In i l -> D (fun x => b x i) x0 (db i) /\ 0 < b x0 i) ->
  (forall i, In i l -> D (fun x => mu x i) x0 (dmu i) /\ 0 < mu x0 i) ->
  (forall i, In i l -> (al + be) * mu x0 i = al * a i + be * b x0 i) ->
  Rsum l db = 0 -> Rsum l dmu = 0 ->
  D (fun x => al * KL l a (mu x) + be * KL l (b x) (mu x)) x0
    (be * Rsum l (fun i => db i * ln (b x0 i / mu x0 i))).
Proof.
  intros A l al be a b mu db dmu x0 Ha Hb Hm E Sb Sm.
  apply D_eq with (al * Rsum l (fun i => - (a i * (dmu i / mu x0 i)))
    + be * Rsum l (fun i => db i * ln (b x0 i / mu x0 i) + db i - b x0 i * (dmu i / mu x0 i))).
  - rewrite <- !Rsum_scal, <- Rsum_plus.
    rewrite (Rsum_ext l _ (fun i => be * (db i * ln (b x0 i / mu x0 i))
      + (be * db i - (al + be) * dmu i))).
    + rewrite Rsum_plus, Rsum_minus, !Rsum_scal, Sb, Sm. ring.
    + intros i Hi. assert (P := proj2 (Hm i Hi)).
      replace ((al + be) * dmu i) with ((al + be) * mu x0 i * (dmu i / mu x0 i)) by (field; lra).
      rewrite (E i Hi). ring.
  - apply (D_plus (fun x => al * KL l a (mu x)) (fun x => be * KL l (b x) (mu x))); apply D_scal.
    + apply (D_Rsum l (fun x i => kl (a i) (mu x i))). intros i Hi.
      destruct (Hm i Hi) as [Dm Pm]. apply (D_kl_right (a i) (fun x => mu x i)); auto.
    + apply (D_Rsum l (fun x i => kl (b x i) (mu x i))). intros i Hi.
      destruct (Hm i Hi) as [Dm Pm]. destruct (Hb i Hi) as [Db Pb].
      apply (D_kl (fun x => b x i) (fun x => mu x i)); assumption.
Qed.

(** ** A differentiable student *)

Definition after (T t : nat) (F : nat -> R) : R := Steps T F - Steps (S t) F.

Lemma after_is_tail : forall T t F, (t < T)%nat ->
  after T t F = Steps (T - S t) (fun k => F (S t + k)%nat).
Proof.
  intros T t F H. unfold after. replace T with (S t + (T - S t))%nat at 1 by lia.
  induction (T - S t)%nat as [|n IH].
  - rewrite Nat.add_0_r. simpl. ring.
  - rewrite Nat.add_succ_r. cbn [Steps]. cbn [Steps] in IH. lra.
Qed.

Lemma steps_swap : forall T a b,
  Steps T (fun j => Steps j a * b j) = Steps T (fun t => a t * after T t b).
Proof.
  induction T as [|T IH]; intros a b; [reflexivity|].
  cbn [Steps]. rewrite IH. unfold after. cbn [Steps].
  rewrite (Steps_ext T (fun t => a t * (Steps T b + b T - (Steps t b + b t)))
    (fun t => a t * (Steps T b - (Steps t b + b t)) + b T * a t)) by (intros; ring).
  rewrite Steps_plus, Steps_scal. ring.
Qed.

Lemma skipn_cons : forall {A : Type} (y : list A) k, (k < length y)%nat ->
  exists v, skipn k y = v :: skipn (S k) y.
Proof.
  induction y as [|v y IH]; simpl; intros k H; [lia|].
  destruct k as [|k]; [exists v; reflexivity|]. apply IH. lia.
Qed.

Lemma upto_S : forall {A : Type} n t (y : list A), length y = n -> (t < n)%nat ->
  exists v, upto n (S t) y = v :: upto n t y.
Proof.
  intros A n t y Hl Ht. unfold upto. destruct (skipn_cons y (n - S t)) as [v Hv]; [lia|].
  exists v. rewrite Hv. replace (S (n - S t)) with (n - t)%nat by lia. reflexivity.
Qed.

Lemma upto_0 : forall {A : Type} n (y : list A), length y = n -> upto n 0 y = [].
Proof. intros A n y H. unfold upto. rewrite Nat.sub_0_r, <- H. apply skipn_all. Qed.

Section Student.
Context {token : Type} (V : list token).
Variables (q : R -> model token) (x0 : R) (dq : list token -> token -> R).
Hypothesis q_model : forall x, is_model V (q x).
Hypothesis q_derivative : forall s v, D (fun x => q x s v) x0 (dq s v).

Notation Q := (prob (q x0)).

(** Derivative of log q(v|s) at x0 (0 where q(v|s) = 0, as after an absorbing EOS). *)
Definition score (s : list token) (v : token) : R := dq s v / q x0 s v.

Fixpoint path_score (s : list token) : R :=
  match s with
  | [] => 0
  | v :: s' => score s' v + path_score s'
  end.

Definition last_score (s : list token) : R :=
  match s with
  | [] => 0
  | v :: s' => score s' v
  end.

Definition score_at (T t : nat) (y : list token) : R := last_score (upto T (S t) y).

Lemma q_score : forall s v, q x0 s v * score s v = dq s v.
Proof.
  intros s v. unfold score. destruct (Req_dec (q x0 s v) 0) as [E|N]; [|field; exact N].
  rewrite E, (D_at_zero (fun x => q x s v) x0 (dq s v)); [ring | apply q_derivative | | exact E].
  intros x. apply q_model.
Qed.

(** The conditional's derivatives sum to zero, and so do those of any law. *)
Lemma dq_sum : forall s, Rsum V (dq s) = 0.
Proof.
  intros s. apply (D_unique (fun x => Rsum V (q x s)) x0).
  - apply (D_Rsum V (fun x => q x s)). intros v _. apply q_derivative.
  - apply D_ext with (fun _ => 1); [intros x; symmetry; apply q_model | apply D_const].
Qed.

Lemma prob_derivative : forall s, D (fun x => prob (q x) s) x0 (Q s * path_score s).
Proof.
  induction s as [|v s IH]; simpl.
  - apply D_eq with 0; [ring | apply D_const].
  - apply D_eq with (dq s v * Q s + q x0 s v * (Q s * path_score s)).
    + rewrite <- q_score. ring.
    + apply (D_mult (fun x => q x s v) (fun x => prob (q x) s)); [apply q_derivative | exact IH].
Qed.

Lemma law_derivative_sum : forall T, Sum V T (fun y => Q y * path_score y) = 0.
Proof.
  intros T. apply (D_unique (fun x => Sum V T (prob (q x))) x0).
  - apply (D_Rsum (sequences V T) (fun x => prob (q x))). intros y _. apply prob_derivative.
  - apply D_ext with (fun _ => 1); [intros x; symmetry; apply total_prob, q_model | apply D_const].
Qed.

(** ** Full gradient = step-wise part + score-function part *)

(** [loss x s] is the word-level loss after s, with everything in it live. *)
Theorem full_gradient : forall (loss : R -> list token -> R) (dloss : list token -> R) T,
  (forall s, D (fun x => loss x s) x0 (dloss s)) ->
  D (fun x => Sum V T (fun y => prob (q x) y * Steps T (fun t => loss x (upto T t y)))) x0
    (Sum V T (fun y => Q y * Steps T (fun t => dloss (upto T t y)))
     + SumPrefixes V T (fun s => Q s * path_score s * loss x0 s)).
Proof.
  intros loss dloss T H.
  rewrite (one_sample_serves_every_step V (q x0) T dloss (q_model x0)).
  apply D_ext with (fun x => SumPrefixes V T (fun s => prob (q x) s * loss x s)).
  { intros x. symmetry. apply (one_sample_serves_every_step V (q x) T (loss x) (q_model x)). }
  rewrite <- SumPrefixes_plus.
  apply (D_SumPrefixes V T (fun x s => prob (q x) s * loss x s)). intros s.
  apply D_eq with (Q s * path_score s * loss x0 s + Q s * dloss s); [ring|].
  apply (D_mult (fun x => prob (q x) s) (fun x => loss x s)); [apply prob_derivative | apply H].
Qed.

Lemma path_score_sum : forall T y, length y = T -> forall j, (j <= T)%nat ->
  path_score (upto T j y) = Steps j (fun t => score_at T t y).
Proof.
  intros T y Hl. induction j as [|j IH]; intros Hj; [rewrite upto_0 by exact Hl; reflexivity|].
  cbn [Steps]. rewrite <- IH by lia. unfold score_at.
  destruct (upto_S T j y Hl) as [v Hv]; [lia|]. rewrite Hv. simpl. ring.
Qed.

(** The score part is a return that starts after the step: step t itself is summed
    over the vocabulary explicitly. *)
Theorem score_part : forall (F : list token -> R) T,
  SumPrefixes V T (fun s => Q s * path_score s * F s)
  = Sum V T (fun y => Q y * Steps T (fun t =>
      score_at T t y * after T t (fun j => F (upto T j y)))).
Proof.
  intros F T.
  rewrite (SumPrefixes_ext V T _ (fun s => Q s * (path_score s * F s))) by (intros; ring).
  rewrite <- (one_sample_serves_every_step V (q x0) T (fun s => path_score s * F s) (q_model x0)).
  apply Rsum_ext. intros y Hy. apply in_sequences in Hy. destruct Hy as [Hl _]. f_equal.
  rewrite <- (steps_swap T (fun t => score_at T t y) (fun j => F (upto T j y))).
  apply Steps_ext. intros j Hj. rewrite (path_score_sum T y Hl) by lia. reflexivity.
Qed.

Lemma one_sample_next_token : forall T (G : list token -> R),
  Sum V T (fun y => Q y * Steps T (fun t => G (upto T (S t) y)))
  = SumPrefixes V T (fun s => Rsum V (fun v => Q (v :: s) * G (v :: s))).
Proof.
  intros T G. unfold SumPrefixes. induction T as [|T IH].
  - rewrite Sum_0. simpl. ring.
  - rewrite Sum_S. cbn [Steps]. rewrite <- IH. unfold Sum. rewrite <- Rsum_plus.
    apply Rsum_ext. intros s _.
    rewrite (Rsum_ext V _ (fun v => Q (v :: s) * Steps T (fun t => G (upto T (S t) s))
                                    + Q (v :: s) * G (v :: s))).
    + rewrite Rsum_plus, Rsum_scal_r, (marginal V (q x0) s (q_model x0)). reflexivity.
    + intros v _. rewrite <- Rmult_plus_distr_l. f_equal. f_equal.
      * apply Steps_ext. intros t Ht. rewrite upto_cons by lia. reflexivity.
      * rewrite upto_all. reflexivity.
Qed.

(** A baseline that depends on y_<t alone (and on anything independent of y_t given
    y_<t, which is then a constant here) leaves the expectation unchanged. *)
Theorem baseline_free : forall (base : list token -> R) T,
  Sum V T (fun y => Q y * Steps T (fun t => score_at T t y * base (upto T t y))) = 0.
Proof.
  intros base T.
  transitivity (Sum V T (fun y => Q y * Steps T (fun t =>
    (fun s => last_score s * base (tl s)) (upto T (S t) y)))).
  - apply Rsum_ext. intros y Hy. apply in_sequences in Hy. destruct Hy as [Hl _]. f_equal.
    apply Steps_ext. intros t Ht. unfold score_at.
    destruct (upto_S T t y Hl Ht) as [v Hv]. rewrite Hv. reflexivity.
  - rewrite (one_sample_next_token T (fun s => last_score s * base (tl s))).
    unfold SumPrefixes. rewrite (Steps_ext T _ (fun _ => 0)); [rewrite Steps_const; ring|].
    intros t _. apply Rsum_zero. intros s _. simpl.
    rewrite (Rsum_ext V _ (fun v => dq s v * (Q s * base s))).
    + rewrite Rsum_scal_r, dq_sum. ring.
    + intros v _. rewrite <- q_score. ring.
Qed.

(** ** Reverse KL *)

(** The full gradient of RKL (Eqn. 22): its step-wise part is the paper's loss
    differentiated with the prefixes held, its score part weighs each token by the
    RKL still to come. *)
Theorem rkl_full_gradient : forall (p : model token) T, is_model V p ->
  (forall s v, 0 < p s v) -> (forall s v, 0 < q x0 s v) ->
  D (fun x => seqDiv rkl V T p (q x)) x0
    (Sum V T (fun y => Q y * Steps T (fun t =>
       Rsum V (fun v => dq (upto T t y) v * ln (q x0 (upto T t y) v / p (upto T t y) v))))
     + Sum V T (fun y => Q y * Steps T (fun t => score_at T t y *
       after T t (fun j => KL V (q x0 (upto T j y)) (p (upto T j y)))))).
Proof.
  intros p T Hp Pp Pq.
  assert (Dom : forall x, dominated (q x) p).
  { intros x s E. exfalso. assert (0 < prob p s); [|lra].
    clear E. induction s as [|v s IH]; simpl; [lra | apply Rmult_lt_0_compat; auto]. }
  rewrite <- (score_part (fun s => KL V (q x0 s) (p s))).
  apply D_ext with (fun x => Sum V T (fun y => prob (q x) y * Steps T (fun t =>
    (fun x s => KL V (q x s) (p s)) x (upto T t y)))).
  { intros x. symmetry. apply rkl_chain_rule_expectation; auto. }
  apply (full_gradient (fun x s => KL V (q x s) (p s))
    (fun s => Rsum V (fun v => dq s v * ln (q x0 s v / p s v)))).
  intros s.
  apply D_eq with (Rsum V (fun v => dq s v * ln (q x0 s v / p s v) + dq s v
    - q x0 s v * (0 / p s v))).
  - rewrite Rsum_minus, Rsum_plus, dq_sum, (Rsum_zero V (fun v => q x0 s v * (0 / p s v)));
      [ring | intros; unfold Rdiv; ring].
  - apply (D_Rsum V (fun x v => kl (q x s v) (p s v))). intros v _.
    apply (D_kl (fun x => q x s v) (fun _ => p s v)); auto. apply D_const.
Qed.

(** ** Jensen-Shannon *)

Section JS.
Variables (pi : R) (p : model token).
Hypothesis pi_pos : 0 < pi.
Hypothesis pi_lt_1 : pi < 1.
Hypothesis p_model : is_model V p.
Hypothesis q_pos : forall s v, 0 < q x0 s v.

Lemma Q_pos : forall s, 0 < Q s.
Proof. induction s as [|v s IH]; simpl; [lra | apply Rmult_lt_0_compat; auto]. Qed.

(** The step-wise gradient of the exact JS (prefix probabilities held): whatever
    normalised model [mu] stands for the middle, as long as it is the middle at x0.
    It may be held, or move through q, through the weight w, or both. *)
Theorem js_stepwise_gradient : forall (mu : R -> model token) (dmu : list token -> token -> R) T,
  (forall s v, mu x0 s v = middle pi p (q x0) s v) ->
  (forall s v, D (fun x => mu x s v) x0 (dmu s v)) -> (forall s, Rsum V (dmu s) = 0) ->
  D (fun x => SumPrefixes V T (fun s => pi * prob p s * KL V (p s) (mu x s)
                                      + (1 - pi) * Q s * KL V (q x s) (mu x s))) x0
    (SumPrefixes V T (fun s => (1 - pi) * Q s *
       Rsum V (fun v => dq s v * ln (q x0 s v / middle pi p (q x0) s v)))).
Proof.
  intros mu dmu T Hmu Dmu Smu.
  apply (D_SumPrefixes V T (fun x s => pi * prob p s * KL V (p s) (mu x s)
                                     + (1 - pi) * Q s * KL V (q x s) (mu x s))). intros s.
  assert (wT := posterior_teacher V pi pi_pos pi_lt_1 p (q x0) p_model (q_model x0) s).
  assert (wS := posterior_student V pi pi_pos pi_lt_1 p (q x0) p_model (q_model x0) s).
  assert (B := posterior_bounds V pi pi_pos pi_lt_1 p (q x0) p_model (q_model x0) s).
  assert (HQ := Q_pos s).
  assert (Pm : forall v, 0 < mu x0 s v).
  { intros v. rewrite Hmu. unfold middle, blend.
    assert (N : 0 < 1 - posterior pi p (q x0) s).
    { destruct (Req_dec (1 - posterior pi p (q x0) s) 0) as [E|E]; [|lra].
      rewrite E, Rmult_0_r in wS.
      assert (0 < (1 - pi) * Q s) by (apply Rmult_lt_0_compat; lra). lra. }
    assert (0 <= posterior pi p (q x0) s * p s v) by (apply Rmult_le_pos; [lra | apply p_model]).
    assert (0 < (1 - posterior pi p (q x0) s) * q x0 s v) by (apply Rmult_lt_0_compat; auto). lra. }
  rewrite (Rsum_ext V _ (fun v => dq s v * ln (q x0 s v / mu x0 s v)))
    by (intros v _; rewrite Hmu; reflexivity).
  apply (envelope V (pi * prob p s) ((1 - pi) * Q s) (p s) (fun x => q x s) (fun x => mu x s)
    (dq s) (dmu s) x0).
  - intros v _. apply p_model.
  - intros v _. auto.
  - intros v _. auto.
  - intros v _. rewrite Hmu. change (pi * prob p s + (1 - pi) * Q s) with (mixture pi p (q x0) s).
    unfold middle, blend. rewrite Rmult_plus_distr_l, <- !Rmult_assoc, wT, wS. reflexivity.
  - apply dq_sum.
  - apply Smu.
Qed.

(** The full gradient of exact JS needs student samples only. *)
Theorem js_full_gradient : forall T,
  D (fun x => JS pi (sequences V T) (prob p) (prob (q x))) x0
    ((1 - pi) * Sum V T (fun y => Q y * (path_score y * ln (Q y / mixture pi p (q x0) y)))).
Proof.
  intros T.
  apply D_ext with (fun x => pi * KL (sequences V T) (prob p) (mixture pi p (q x))
    + (1 - pi) * KL (sequences V T) (prob (q x)) (mixture pi p (q x))).
  { intros x. unfold JS, KL, Div, js. rewrite <- !Rsum_scal, <- Rsum_plus. reflexivity. }
  apply D_eq with ((1 - pi) * Rsum (sequences V T) (fun y =>
    Q y * path_score y * ln (Q y / mixture pi p (q x0) y))).
  { f_equal. apply Rsum_ext. intros y _. ring. }
  assert (Dm : forall y, D (fun x => mixture pi p (q x) y) x0 ((1 - pi) * (Q y * path_score y))).
  { intros y. apply D_eq with (0 + (1 - pi) * (Q y * path_score y)); [ring|].
    apply (D_plus (fun _ => pi * prob p y) (fun x => (1 - pi) * prob (q x) y));
      [apply D_const | apply D_scal, prob_derivative]. }
  apply (envelope (sequences V T) pi (1 - pi) (prob p) (fun x => prob (q x))
    (fun x => mixture pi p (q x)) (fun y => Q y * path_score y)
    (fun y => (1 - pi) * (Q y * path_score y)) x0).
  - intros y _. apply (prob_nonneg V), p_model.
  - intros y _. split; [apply prob_derivative | apply Q_pos].
  - intros y _. split; [apply Dm|]. unfold mixture.
    assert (0 <= pi * prob p y) by (apply Rmult_le_pos; [lra | apply (prob_nonneg V), p_model]).
    assert (0 < (1 - pi) * Q y) by (apply Rmult_lt_0_compat; [lra | apply Q_pos]). lra.
  - intros y _. unfold mixture. ring.
  - apply law_derivative_sum.
  - rewrite Rsum_scal. assert (E := law_derivative_sum T). unfold Sum in E. rewrite E. ring.
Qed.

End JS.

(** ** Teacher samples alone *)

(** A law that does not depend on x: the gradient of the mean is the mean of the
    gradients, and no score part is missing. *)
Theorem teacher_expectation_gradient : forall (p : model token)
  (loss : R -> list token -> R) (dloss : list token -> R) T,
  (forall s, D (fun x => loss x s) x0 (dloss s)) ->
  D (fun x => Sum V T (fun y => prob p y * Steps T (fun t => loss x (upto T t y)))) x0
    (Sum V T (fun y => prob p y * Steps T (fun t => dloss (upto T t y)))).
Proof.
  intros p loss dloss T H.
  apply (D_Rsum (sequences V T) (fun x y => prob p y * Steps T (fun t => loss x (upto T t y)))).
  intros y _. apply D_scal.
  apply (D_Steps T (fun x t => loss x (upto T t y))). intros t. apply H.
Qed.

(** Whatever derivative the live term (pi/w) JS_w has, its teacher mean is the full
    gradient of the exact JS. *)
Theorem js_teacher_only_gradient : forall (p : model token) pi (dterm : list token -> R) T,
  0 < pi -> pi < 1 -> is_model V p ->
  (forall s, D (fun x => js_teacher_term pi V p (q x) s) x0 (dterm s)) ->
  D (fun x => JS pi (sequences V T) (prob p) (prob (q x))) x0
    (Sum V T (fun y => prob p y * Steps T (fun t => dterm (upto T t y)))).
Proof.
  intros p pi dterm T H0 H1 Hp Hd.
  apply D_ext with (fun x => Sum V T (fun y => prob p y * Steps T (fun t =>
    js_teacher_term pi V p (q x) (upto T t y)))).
  - intros x. symmetry. apply js_teacher_only; auto.
  - apply (teacher_expectation_gradient p (fun x s => js_teacher_term pi V p (q x) s)). exact Hd.
Qed.

(** The same for the overlap bound with its weight live, away from ties. *)
Theorem overlap_teacher_only_gradient : forall (p : model token) (dterm : list token -> R) T,
  is_model V p ->
  (forall s, D (fun x => cap (prob (q x) s / prob p s) * TV V (p s) (q x s)) x0 (dterm s)) ->
  D (fun x => weighted_tv V T p (q x) (overlap p (q x))) x0
    (Sum V T (fun y => prob p y * Steps T (fun t => dterm (upto T t y)))).
Proof.
  intros p dterm T Hp Hd.
  apply D_ext with (fun x => Sum V T (fun y => prob p y * Steps T (fun t =>
    cap (prob (q x) (upto T t y) / prob p (upto T t y))
      * TV V (p (upto T t y)) (q x (upto T t y))))).
  - intros x. symmetry. apply overlap_teacher_only; auto.
  - apply (teacher_expectation_gradient p
      (fun x s => cap (prob (q x) s / prob p s) * TV V (p s) (q x s))). exact Hd.
Qed.

(** And for exact TVD. *)
Theorem tvd_teacher_only_gradient : forall (p : model token) (dterm : list token -> R) T,
  is_model V p ->
  (forall s, D (fun x => tvd_teacher_term V p (q x) s) x0 (dterm s)) ->
  D (fun x => tvd V T p (q x)) x0
    (Sum V T (fun y => prob p y * Steps T (fun t => dterm (upto T t y)))).
Proof.
  intros p dterm T Hp Hd.
  apply D_ext with (fun x => Sum V T (fun y => prob p y * Steps T (fun t =>
    tvd_teacher_term V p (q x) (upto T t y)))).
  - intros x. symmetry. apply tvd_teacher_only; auto.
  - apply (teacher_expectation_gradient p (fun x s => tvd_teacher_term V p (q x) s)). exact Hd.
Qed.

End Student.

(** ** Softmax tables *)

Definition softmax {token : Type} (V : list token) (z d : list token -> token -> R) (x : R)
  : model token :=
  fun s v => exp (z s v + x * d s v) / Rsum V (fun u => exp (z s u + x * d s u)).

(** Tables of logits z moved in any direction d are positive models for every x, with
    derivative q (d - sum_u q d): all that this file assumes of a student. *)
Theorem softmax_student : forall {token : Type} (V : list token) z d, V <> [] ->
  (forall x, is_model V (softmax V z d x)) /\
  (forall x s v, 0 < softmax V z d x s v) /\
  (forall x s v, D (fun x => softmax V z d x s v) x
     (softmax V z d x s v * (d s v - Rsum V (fun u => softmax V z d x s u * d s u)))).
Proof.
  intros token V z d HV.
  assert (Z : forall x s, 0 < Rsum V (fun u => exp (z s u + x * d s u))).
  { intros x s. destruct V as [|u V']; [contradiction|]. simpl.
    assert (0 <= Rsum V' (fun u => exp (z s u + x * d s u)))
      by (apply Rsum_nonneg; intros; left; apply exp_pos).
    assert (HE := exp_pos (z s u + x * d s u)). lra. }
  assert (Pos : forall x s v, 0 < softmax V z d x s v).
  { intros x s v. apply Rdiv_lt_0_compat; [apply exp_pos | apply Z]. }
  split; [|split; [exact Pos|]].
  - intros x. split; [intros s v; left; apply Pos|]. intros s.
    unfold softmax, Rdiv. rewrite Rsum_scal_r. apply Rinv_r. assert (H := Z x s). lra.
  - intros x s v.
    assert (E : forall u, D (fun x => exp (z s u + x * d s u)) x
                  (exp (z s u + x * d s u) * d s u)).
    { intros u. apply (D_exp (fun x => z s u + x * d s u)).
      apply D_eq with (0 + (1 * d s u + x * 0)); [ring|].
      apply (D_plus (fun _ => z s u) (fun x => x * d s u)); [apply D_const|].
      apply (D_mult (fun x => x) (fun _ => d s u)); [exact (derivable_pt_lim_id x) | apply D_const]. }
    assert (S : D (fun x => Rsum V (fun u => exp (z s u + x * d s u))) x
                  (Rsum V (fun u => exp (z s u + x * d s u) * d s u))).
    { apply (D_Rsum V (fun x u => exp (z s u + x * d s u))). intros u _. apply E. }
    assert (N := Z x s).
    eapply D_eq; [|apply (D_div (fun x => exp (z s v + x * d s v))
      (fun x => Rsum V (fun u => exp (z s u + x * d s u))) x _ _ (E v) S); lra].
    unfold softmax. set (W := Rsum V (fun u => exp (z s u + x * d s u))) in *.
    rewrite (Rsum_ext V (fun u => exp (z s u + x * d s u) / W * d s u)
      (fun u => / W * (exp (z s u + x * d s u) * d s u))) by (intros; unfold Rdiv; ring).
    rewrite Rsum_scal. unfold Rsqr. field. lra.
Qed.
