-- SPDX-License-Identifier: Apache-2.0
-- How many rows of each source did not train each model, counted row by row where need be;
-- model_loss_counts keeps what this says
-- Asked when an index is filled and nowhere else: as a macro in the index it would be bound in every
-- new one, which takes longer than to fill a small one.
with inputs as (
  select distinct model_id, digest, dataset_run, seq, held_set from model_inputs
),
lost as (
  select i.seq, l.source_no, l.rows
  from inputs i
  join dataset_losses l on l.digest = i.digest and l.run_id = i.dataset_run
  union all
  select i.seq, h.source_no, h.rows
  from inputs i
  join model_held_out_counts h on h.seq = i.held_set
  join source_facts f on f.source_no = h.source_no and h.last_ordinal < f.rows
  where exists (  -- a source that the data set has no rows of has none to lose
    from datasets d
    where d.digest = i.digest and d.run_id = i.dataset_run
      and list_contains(d.source_nos::bigint[], h.source_no::bigint)
  )
  union all
  select i.seq, w.row_id >> 40,
         sum(if(w.reached, 1, 0) - if(w.seen, 1, 0) - if(w.held_out, 1, 0))
  from model_woven w
  join inputs i on i.model_id = w.model_id and i.digest = w.digest
               and i.dataset_run = w.dataset_run and i.held_set is not distinct from w.held_set
  join source_facts f on f.source_no = (w.row_id >> 40) and (w.row_id & 1099511627775) < f.rows
  group by all
)
select i.seq, i.model_id, i.digest, i.dataset_run, l.source_no, sum(l.rows)::bigint as rows
from lost l
join inputs i using (seq)
group by all
