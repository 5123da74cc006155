"""An objective is a sum of terms: (prefix source, word-level divergence, weight, prefix weight). `table` holds them.

| objective     | terms                                                                    | Wen et al. (2023) |
| ------------- | ------------------------------------------------------------------------ | ----------------- |
| mle           | data · nll                                                               |                   |
| kd            | data · kl                                                                | Eqn. 1            |
| seqkd         | teacher (beam) · nll                                                     | Eqns. 2-3         |
| kl            | teacher · kl                                                             | Eqns. 5-6         |
| engine        | student · cross_entropy_to_teacher                                       | section 2         |
| rkl           | student · reverse_kl                                                     | Eqn. 7            |
| js            | teacher · π kl_to_middle + student · (1-π) reverse_kl_to_middle          | Eqn. 8            |
| tvd           | teacher · ½ tvd + student · ½ tvd                                        | Eqns. 9-10        |
| f_divergence  | teacher or student · the shifted generator f_r                           | Eqn. 4            |
"""

from fdistill.objectives.options import SCHEDULED
from fdistill.objectives.table import OBJECTIVES, ObjectiveEntry, objective
from fdistill.objectives.terms import SOURCES, Objective, PrefixFunction, Term

__all__ = ["OBJECTIVES", "SCHEDULED", "SOURCES", "Objective", "ObjectiveEntry", "PrefixFunction", "Term", "objective"]
