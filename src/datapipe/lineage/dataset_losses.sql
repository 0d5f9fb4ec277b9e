-- SPDX-License-Identifier: Apache-2.0
-- How many rows of each source each data set has lost, counted row by row where need be: a row that
-- was set aside before it was erased counts once; dataset_loss_counts keeps what this says
-- Asked when an index is filled and nowhere else: as a macro in the index it would be bound in every
-- new one, which takes longer than to fill a small one.
with erased_rows as (
  select distinct a.digest, a.run_id, d.row_id, (d.row_id >> 40) as source_no
  from row_drop_steps s
  join row_drops d using (seq)
  join dataset_ancestors a using (step_id)
  join source_facts f on f.source_no = (d.row_id >> 40) and (d.row_id & 1099511627775) < f.rows
  where s.run_id in (select erasure_id from erasures)
),
lost as (
  select a.digest, a.run_id, l.source_no, l.rows
  from dataset_ancestors a
  join step_losses l using (step_id)
  union all
  select digest, run_id, source_no, count(*) from erased_rows group by all
  union all
  select e.digest, e.run_id, e.source_no, -count(distinct e.row_id)
  from erased_rows e
  join step_drops r on r.row_id = e.row_id
                   and (r.run_id is null or r.run_id not in (select erasure_id from erasures))
  join dataset_ancestors b on b.digest = e.digest and b.run_id = e.run_id
                          and b.step_id = r.step_id
  group by all
  union all  -- what was joined or multiplied may be there in other lines, or be counted twice
  select w.digest, w.run_id, w.row_id >> 40, sum(if(w.reached, 0, 1) - w.times)
  from dataset_woven w
  join source_facts f on f.source_no = (w.row_id >> 40) and (w.row_id & 1099511627775) < f.rows
  group by all
)
select digest, run_id, source_no, sum(rows)::bigint as rows
from lost
group by all
