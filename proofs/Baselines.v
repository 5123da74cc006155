(** * Baselines: SeqKD and ENGINE as approximations

    Wen et al. (2023, section 2): SeqKD (Kim & Rush 2016, Eqns. 2-3) is KL without
    the teacher's entropy; ENGINE (Tu et al. 2020) is reverse KL without the
    student's entropy.

    Definitions
      [entropy l a]            - sum a log a
      [cross_entropy l a b]    - sum a log b

    Main results
      [seqkd_identity]         E_{y~p}[-log Q(y)] = KL(P||Q) + H(P)
      [engine_identity]        E_{y~q}[-log P(y)] = KL(Q||P) + H(Q)
      [seqkd_stepwise], [engine_stepwise]
                               both are sums of word-level cross-entropies over prefixes
      [seqkd_token_nll]        the loss of one sequence is its summed token NLL (Eqn. 3)
      [seqkd_least]            SeqKD is at least H(P), with equality iff Q = P: R_cvg
      [engine_least_at_collapse]  ENGINE is never below the NLL of the teacher's most
                               probable sequence, which a student that writes nothing
                               else attains: R_llh is least at collapse, not at Q = P *)

Require Import Reals List Lra Lia.
Require Import FDistill.Sequences FDistill.Divergences FDistill.ChainRule.
Import ListNotations.
Open Scope R_scope.

Definition entropy {A : Type} (l : list A) (a : A -> R) : R :=
  Rsum l (fun x => - (a x * ln (a x))).

Definition cross_entropy {A : Type} (l : list A) (a b : A -> R) : R :=
  Rsum l (fun x => a x * - ln (b x)).

Lemma cross_entropy_split : forall {A : Type} (l : list A) (a b : A -> R),
  (forall x, In x l -> dominated_cone (a x) (b x)) ->
  cross_entropy l a b = KL l a b + entropy l a.
Proof.
  intros A l a b H. unfold cross_entropy, KL, Div, entropy. rewrite <- Rsum_plus.
  apply Rsum_ext. intros x Hx. assert (D := H x Hx).
  rewrite kl_split; [ring | apply D | intros N; eapply dominated_cone_pos; eassumption].
Qed.

Section Baselines.
Context {token : Type} (V : list token).
Variables (p q : model token).
Hypothesis p_model : is_model V p.
Hypothesis q_model : is_model V q.

(** SeqKD's expectation (Eqn. 2) is KL plus the teacher's entropy, a constant. *)
Theorem seqkd_identity : dominated p q -> forall T,
  Sum V T (fun y => prob p y * - ln (prob q y))
  = KL (sequences V T) (prob p) (prob q) + entropy (sequences V T) (prob p).
Proof.
  intros D T. apply cross_entropy_split. intros y _. apply (dominated_pair V); assumption.
Qed.

(** ENGINE's expectation is RKL plus the student's entropy. *)
Theorem engine_identity : dominated q p -> forall T,
  Sum V T (fun y => prob q y * - ln (prob p y))
  = seqDiv rkl V T p q + entropy (sequences V T) (prob q).
Proof.
  intros D T. apply cross_entropy_split. intros y _. apply (dominated_pair V); assumption.
Qed.

(** One sequence's loss is the sum of its token losses (Eqn. 3). *)
Theorem seqkd_token_nll : forall m : model token, (forall s v, 0 < m s v) ->
  forall y v, - ln (prob m (v :: y)) = - ln (m y v) + - ln (prob m y).
Proof.
  intros m Hm y v.
  assert (Pos : forall s, 0 < prob m s).
  { induction s as [|u s IH]; simpl; [lra | apply Rmult_lt_0_compat; auto]. }
  simpl. rewrite ln_mult by auto. ring.
Qed.

(** The chain rule of cross-entropies: A = P, B = Q for SeqKD. *)
Lemma cross_entropy_chain_rule : forall a b : model token,
  is_model V a -> is_model V b -> dominated a b -> forall T,
  cross_entropy (sequences V T) (prob a) (prob b)
  = SumPrefixes V T (fun s => prob a s * cross_entropy V (a s) (b s)).
Proof.
  intros a b Ha Hb D T. unfold cross_entropy.
  change (Rsum (sequences V T) (fun y => prob a y * - ln (prob b y)))
    with (Sum V T (fun y => prob a y * - ln (prob b y))).
  rewrite telescope. simpl prob at 1 2. rewrite ln_1.
  replace (1 * - 0) with 0 by ring. rewrite Rplus_0_l.
  apply SumPrefixes_ext. intros s _.
  rewrite (Rsum_ext V _ (fun v => a s v * (prob a s * - ln (prob b s))
                                  + prob a s * (a s v * - ln (b s v)))).
  - rewrite Rsum_plus, Rsum_scal_r, Rsum_scal, (proj2 Ha). ring.
  - intros v _. simpl.
    destruct (Req_dec (a s v * prob a s) 0) as [E|N].
    + rewrite E. replace (a s v * (prob a s * - ln (prob b s)) + prob a s * (a s v * - ln (b s v)))
        with (a s v * prob a s * (- ln (prob b s) - ln (b s v))) by ring. rewrite E. ring.
    + assert (Pb : b s v * prob b s <> 0) by (intros E; apply N; exact (D (v :: s) E)).
      assert (B0 := prob_nonneg V b s Hb). assert (B1 := proj1 Hb s v).
      assert (b s v <> 0 /\ prob b s <> 0) as [N1 N2] by (split; intros F; apply Pb; rewrite F; ring).
      rewrite ln_mult by lra. ring.
Qed.

Theorem seqkd_stepwise : dominated p q -> forall T,
  Sum V T (fun y => prob p y * - ln (prob q y))
  = SumPrefixes V T (fun s => prob p s * cross_entropy V (p s) (q s)).
Proof. intros D T. apply cross_entropy_chain_rule; assumption. Qed.

Theorem engine_stepwise : dominated q p -> forall T,
  Sum V T (fun y => prob q y * - ln (prob p y))
  = SumPrefixes V T (fun s => prob q s * cross_entropy V (q s) (p s)).
Proof. intros D T. apply cross_entropy_chain_rule; assumption. Qed.

(** SeqKD's minimum is H(P), at Q = P and only there. *)
Theorem seqkd_least : dominated p q -> forall T,
  entropy (sequences V T) (prob p) <= Sum V T (fun y => prob p y * - ln (prob q y)) /\
  (Sum V T (fun y => prob p y * - ln (prob q y)) = entropy (sequences V T) (prob p)
   <-> same_law V T p q).
Proof.
  intros D T. rewrite seqkd_identity by exact D.
  assert (G := proj1 (proj2 (kl_instance V p q p_model q_model D)) T).
  change (0 <= KL (sequences V T) (prob p) (prob q)) in G.
  split; [lra|].
  assert (E : KL (sequences V T) (prob p) (prob q) = 0 <-> same_law V T p q).
  { apply KL_zero_iff.
    - intros y _. apply (dominated_pair V); assumption.
    - transitivity 1; [|symmetry]; [apply (total_prob V p T p_model) | apply (total_prob V q T q_model)]. }
  rewrite <- E. split; intros; lra.
Qed.

(** ENGINE is a mean of the teacher's negative log-probabilities, so its minimum is
    their least value, at a student that has collapsed on likeliest sequences. *)
Theorem engine_least_at_collapse : dominated q p -> forall T y0,
  (forall y, In y (sequences V T) -> prob p y <= prob p y0) ->
  - ln (prob p y0) <= Sum V T (fun y => prob q y * - ln (prob p y))
  /\ ((forall y, In y (sequences V T) -> prob q y <> 0 -> prob p y = prob p y0) ->
      Sum V T (fun y => prob q y * - ln (prob p y)) = - ln (prob p y0)).
Proof.
  intros D T y0 H. assert (E := total_prob V q T q_model). unfold Sum in *. split.
  - rewrite <- (Rmult_1_l (- ln (prob p y0))), <- E, <- Rsum_scal_r.
    apply Rsum_le. intros y Hy. destruct (Req_dec (prob q y) 0) as [F|F]; [rewrite F; lra|].
    apply Rmult_le_compat_l; [apply (prob_nonneg V), q_model|]. apply Ropp_le_contravar.
    assert (P : 0 < prob p y).
    { assert (P0 := prob_nonneg V p y p_model).
      destruct (Req_dec (prob p y) 0) as [G|G]; [exfalso; exact (F (D y G)) | lra]. }
    destruct (H y Hy) as [L|L]; [left; apply ln_increasing; assumption | rewrite L; lra].
  - intros C. rewrite <- (Rmult_1_l (- ln (prob p y0))), <- E, <- Rsum_scal_r.
    apply Rsum_ext. intros y Hy. destruct (Req_dec (prob q y) 0) as [F|F].
    + rewrite F. ring.
    + rewrite (C y Hy F). reflexivity.
Qed.

End Baselines.
