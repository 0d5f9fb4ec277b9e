-- SPDX-License-Identifier: Apache-2.0
-- The promised views. The line before each is its meaning; columns are described in
-- manifests/lineage/views.md. None of them recurses over rows: a step that was reused points at the
-- step that ran, a data set names all steps before it, and a row's id names its source. A view is looked into when it
-- is first asked: to bind each of them in every new index takes longer than to fill a small one.

-- the step that did the work behind each step
create view step_origins with (defer_binding) as
select step_id, run_id, position, stage, coalesce(reused_from, step_id) as origin
from steps;

-- rows that were set aside, with the step that did it
create view step_drops with (defer_binding) as
select d.seq, s.step_id, s.run_id, d.row_id, d.reason
from row_drops d
join row_drop_steps s using (seq);

-- the newest declaration about each source
create view source_facts with (defer_binding) as
select source_no,
       arg_max(name, seq) as source,
       arg_max(rows, seq) as rows
from sources
group by source_no;

-- what state each run is in and what it thought of the data
create view run_status with (defer_binding) as
with newest as (
  select run_id, arg_max(event, seq) as event, arg_max(recorded_at, seq) as at,
         arg_max(detail ->> 'verdict', seq) as verdict
  from run_events
  group by run_id
),
judged as (
  select run_id,
         max(case verdict when 'fail' then 3 when 'suspect' then 2 when 'not_evaluated' then 1
                          else 0 end) as worst
  from findings
  group by run_id
)
select r.run_id, r.pipeline,
       case when n.event is null or n.event = 'started' then 'running' else n.event end as state,
       r.started_at,
       case when n.event <> 'started' then n.at end as ended_at,
       coalesce(n.verdict, ['clean', 'not_evaluated', 'suspect', 'fail'][j.worst + 1]) as verdict
from runs r
left join newest n using (run_id)
left join judged j using (run_id);

-- every row that was set aside, by whom and why
create view dropped_rows with (defer_binding) as
select o.run_id, d.row_id,
       (d.row_id >> 40)::bigint as source_no,
       (d.row_id & 1099511627775)::bigint as ordinal,
       f.source, o.step_id, o.stage, d.reason
from step_drops d
join step_origins o on o.origin = d.step_id
left join source_facts f on f.source_no = (d.row_id >> 40)::bigint;

-- every label that was changed
create view label_history with (defer_binding) as
select c.row_id,
       (c.row_id >> 40)::bigint as source_no,
       (c.row_id & 1099511627775)::bigint as ordinal,
       o.run_id, o.position, o.stage, c."before", c."after", c.why, c.posterior, c.changed_by
from label_changes c
join step_origins o on o.origin = c.step_id;

-- what happened to rows: flagged, acted on, relabelled, set aside
create view row_history with (defer_binding) as
with happened as (
  select row_id, step_id, case when action = '' then 'flagged' else action end as event,
         case when coalesce(reason, '') = '' then kind else reason end as reason, score
  from row_findings
  union all
  select row_id, step_id, 'relabelled', why, posterior from label_changes
  union all
  select row_id, step_id, 'set aside', reason, null from step_drops
)
select h.row_id,
       (h.row_id >> 40)::bigint as source_no,
       (h.row_id & 1099511627775)::bigint as ordinal,
       o.run_id, o.position, o.stage, h.event, h.reason, h.score
from happened h
join step_origins o on o.origin = h.step_id;

-- each data set with the steps that may have set rows of it aside
create view dataset_ancestors with (defer_binding) as
select distinct d.digest, d.run_id, coalesce(o.origin, a.step_id) as step_id
from (
  select digest, run_id, unnest(ancestor_steps::varchar[]) as step_id from datasets
  union
  select digest, run_id, step_id from datasets
) a
join datasets d using (digest, run_id)
left join step_origins o on o.step_id = a.step_id;

-- how many rows of each source each step set aside, those that a step beside it took left out, and
-- those that a reader numbered behind the rows of its source; erasures stand apart
create view step_losses with (defer_binding) as
with counted as (
  select s.step_id, c.*, f.rows as source_rows
  from row_drop_counts c
  join row_drop_steps s using (seq)
  join source_facts f on f.source_no = c.source_no
  where s.run_id is null or s.run_id not in (select erasure_id from erasures)
)
select step_id, source_no, sum(rows - again)::bigint as rows
from counted
where last_ordinal < source_rows
group by all
union all
select c.step_id, c.source_no, count(distinct d.row_id)
from (from counted where last_ordinal >= source_rows and first_ordinal < source_rows) c
join row_drops d on d.seq = c.seq and (d.row_id >> 40) = c.source_no
                and (d.row_id & 1099511627775) < c.source_rows
where c.reason is null or c.reason = d.reason
group by all;

-- how many lines of a row each data set has that were made from a row, where that is not one to one;
-- the row itself tells how many lines of it there are more than the one it began with
create view dataset_edges with (defer_binding) as
select a.digest, a.run_id, e.row_id, e.made_from, sum(e.lines)::bigint as lines
from row_edges e
join dataset_ancestors a using (step_id)
group by all
having sum(e.lines) <> 0;

-- rows of which a step made others, or several: how often each was counted as set aside, whether a
-- line of it is still there, and whether any line is there that was made from it
create view dataset_woven with (defer_binding) as
with woven as (
  select digest, run_id, row_id from dataset_edges
  union
  select digest, run_id, made_from from dataset_edges
),
left_by as (
  select w.digest, w.run_id, w.row_id,
         case when e.erasure_id is null
              then coalesce(t.run_id || '/' || t.branch_group, s.step_id) end as taken_by
  from row_drops d
  join (select distinct row_id from woven) using (row_id)
  join row_drop_steps s using (seq)
  join dataset_ancestors a using (step_id)
  join woven w on w.row_id = d.row_id and w.digest = a.digest and w.run_id = a.run_id
  left join steps t on t.step_id = s.step_id
  left join erasures e on e.erasure_id = s.run_id
),
counted as (
  select digest, run_id, row_id, count(distinct taken_by) as times,
         count(*) > count(taken_by) as erased
  from left_by
  group by all
),
told as (
  select w.*, case when coalesce(c.erased, false) then greatest(c.times, 1)
                   else coalesce(c.times, 0) end as times,
         not coalesce(c.erased, false) and 1 - coalesce(c.times, 0) + coalesce(l.lines, 0) > 0
           as standing
  from woven w
  left join counted c using (digest, run_id, row_id)
  left join dataset_edges l on l.digest = w.digest and l.run_id = w.run_id
                           and l.row_id = w.row_id and l.made_from = w.row_id
),
held_by as (
  select distinct e.digest, e.run_id, e.made_from as row_id
  from dataset_edges e
  join told t using (digest, run_id, row_id)
  where t.standing and e.lines > 0 and e.made_from <> e.row_id
)
select t.digest, t.run_id, t.row_id, t.times, t.standing,
       t.standing or h.row_id is not null as reached
from told t
left join held_by h using (digest, run_id, row_id);

-- how many rows of each source each data set has lost
create view dataset_losses with (defer_binding) as
select digest, run_id, source_no, arg_max(rows, seq) as rows
from dataset_loss_counts
group by all;

-- how many rows of each source are left in each data set
create view dataset_sources with (defer_binding) as
with inputs as (
  select distinct digest, run_id, unnest(source_nos::bigint[]) as source_no from datasets
)
select i.digest, i.run_id, i.source_no, f.source, f.rows - coalesce(g.rows, 0) as rows
from inputs i
join source_facts f using (source_no)
left join dataset_losses g using (digest, run_id, source_no);

-- each model of a run with the record of its data set, that of the same run where there is one, and
-- with the record that first told of the rows it held out: other rows may give a model of equal bytes
create view model_inputs with (defer_binding) as
select m.model_id, m.name, m.run_id, d.digest, d.run_id as dataset_run, m.seq, h.held_set
from models m
join datasets d on d.digest = m.dataset
left join (
  select model_id, held_out_object, min(seq) as held_set
  from models
  where held_out_object <> ''
  group by all
) h on h.model_id = m.model_id and h.held_out_object = m.held_out_object
qualify row_number() over (
  partition by m.seq order by d.run_id is distinct from m.run_id, d.seq
) = 1;

-- rows of model_inputs of which a step made others, or several: whether the model saw any line
-- that was made from them
create view model_woven with (defer_binding) as
with inputs as (
  select distinct model_id, digest, dataset_run as run_id, held_set from model_inputs
),
told as (
  select i.model_id, i.held_set, w.*, h.row_id is not null as held_out
  from inputs i
  join dataset_woven w using (digest, run_id)
  left join (select distinct seq, row_id from model_held_out) h
         on h.seq = i.held_set and h.row_id = w.row_id
),
seen_in as (
  select distinct t.model_id, t.held_set, e.digest, e.run_id, e.made_from as row_id
  from told t
  join dataset_edges e using (digest, run_id, row_id)
  where t.standing and not t.held_out and e.lines > 0 and e.made_from <> e.row_id
)
select t.model_id, t.digest, t.run_id as dataset_run, t.row_id, t.times, t.held_out, t.reached,
       (t.standing and not t.held_out) or s.row_id is not null as seen, t.held_set
from told t
left join seen_in s on s.model_id = t.model_id and s.held_set is not distinct from t.held_set
                   and s.digest = t.digest and s.run_id = t.run_id and s.row_id = t.row_id;

-- every row that did train a model
create view model_rows with (defer_binding) as
with inputs as materialized (
  select row_number() over () as input_no, count(*) over (partition by model_id) = 1 as alone, *
  from (
    select model_id, digest, held_set, min(dataset_run) as dataset_run
    from model_inputs
    group by all
  )
),
candidates as (
  select i.input_no, i.alone, i.model_id, i.source_no, unnest(range(f.rows)) as ordinal
  from (
    select distinct i.*, unnest(d.source_nos::bigint[]) as source_no
    from inputs i
    join datasets d on d.digest = i.digest and d.run_id = i.dataset_run
  ) i
  join source_facts f using (source_no)
),
gone as (
  select i.input_no, r.row_id
  from inputs i
  join dataset_ancestors a on a.digest = i.digest and a.run_id = i.dataset_run
  join step_drops r using (step_id)
  union all
  select i.input_no, h.row_id
  from inputs i
  join model_held_out h on h.seq = i.held_set
),
trained as (
  select c.*
  from (
    select *, (source_no::ubigint << 40) | ordinal::ubigint as row_id from candidates
  ) c
  anti join gone g using (input_no, row_id)
  union all
  select i.input_no, i.alone, i.model_id, (w.row_id >> 40)::bigint,
         (w.row_id & 1099511627775)::bigint, w.row_id
  from model_woven w
  join inputs i on i.model_id = w.model_id and i.digest = w.digest
               and i.dataset_run = w.dataset_run and i.held_set is not distinct from w.held_set
  where w.seen and (w.times > 0 or w.held_out)
)
select model_id, row_id, source_no, ordinal from trained where alone
union all
select distinct model_id, row_id, source_no, ordinal from trained where not alone;

-- rows of a list that were set aside, with the step that did it, found without a look at the others:
-- by block where a record has blocks, else among the rows of the records that have none
create macro step_drops_of(ids) as table
with asked as materialized (select distinct unnest(ids::ubigint[]) as row_id),
near as (
  select a.row_id, b.*, (a.row_id & 8191)::int as place
  from asked a
  join row_drop_blocks b on b.block = a.row_id >> 13
),
met as (
  select seq, row_id,
         reasons ->> (ascii(substr(codes, bit_count(taken >> (8191 - place))::bigint, 1)) - 35)
           as reason
  from near
  where get_bit(taken, place) = 1
  union all
  select d.seq, d.row_id, d.reason
  from row_drops d
  semi join (
    select distinct seq from row_drop_counts c
    anti join (select distinct seq from row_drop_blocks) using (seq)
  ) using (seq)
  semi join asked using (row_id)
)
select m.seq, s.step_id, s.run_id, m.row_id, m.reason
from met m
join row_drop_steps s using (seq);

-- dropped_rows of a list of row ids
create macro dropped_rows_of(ids) as table
select o.run_id, d.row_id,
       (d.row_id >> 40)::bigint as source_no,
       (d.row_id & 1099511627775)::bigint as ordinal,
       f.source, o.step_id, o.stage, d.reason
from step_drops_of(ids) d
join step_origins o on o.origin = d.step_id
left join source_facts f on f.source_no = (d.row_id >> 40)::bigint;

-- row_history of a list of row ids
create macro row_history_of(ids) as table
with asked as materialized (select distinct unnest(ids::ubigint[]) as row_id),
happened as (
  select row_id, step_id, case when action = '' then 'flagged' else action end as event,
         case when coalesce(reason, '') = '' then kind else reason end as reason, score
  from row_findings semi join asked using (row_id)
  union all
  select row_id, step_id, 'relabelled', why, posterior
  from label_changes semi join asked using (row_id)
  union all
  select row_id, step_id, 'set aside', reason, null from step_drops_of(ids)
)
select h.row_id,
       (h.row_id >> 40)::bigint as source_no,
       (h.row_id & 1099511627775)::bigint as ordinal,
       o.run_id, o.position, o.stage, h.event, h.reason, h.score
from happened h
join step_origins o on o.origin = h.step_id;

-- model_rows of a list of row ids
create macro model_rows_of(ids) as table
with asked as materialized (select distinct unnest(ids::ubigint[]) as row_id),
inputs as materialized (
  select row_number() over () as input_no, count(*) over (partition by model_id) = 1 as alone, *
  from (
    select model_id, digest, held_set, min(dataset_run) as dataset_run
    from model_inputs
    group by all
  )
),
candidates as (
  select i.input_no, i.alone, i.model_id, i.source_no, k.row_id,
         (k.row_id & 1099511627775)::bigint as ordinal
  from (
    select distinct i.*, unnest(d.source_nos::bigint[]) as source_no
    from inputs i
    join datasets d on d.digest = i.digest and d.run_id = i.dataset_run
  ) i
  join source_facts f using (source_no)
  join asked k on (k.row_id >> 40)::bigint = i.source_no and (k.row_id & 1099511627775) < f.rows
),
gone as (
  select i.input_no, r.row_id
  from inputs i
  join dataset_ancestors a on a.digest = i.digest and a.run_id = i.dataset_run
  join step_drops_of(ids) r using (step_id)
  union all
  select i.input_no, h.row_id
  from inputs i
  join (from model_held_out semi join asked using (row_id)) h on h.seq = i.held_set
),
trained as (
  select c.input_no, c.alone, c.model_id, c.source_no, c.ordinal, c.row_id
  from candidates c
  anti join gone g using (input_no, row_id)
  union all
  select i.input_no, i.alone, i.model_id, (w.row_id >> 40)::bigint,
         (w.row_id & 1099511627775)::bigint, w.row_id
  from (from model_woven semi join asked using (row_id)) w
  join inputs i on i.model_id = w.model_id and i.digest = w.digest
               and i.dataset_run = w.dataset_run and i.held_set is not distinct from w.held_set
  where w.seen and (w.times > 0 or w.held_out)
)
select model_id, row_id, source_no, ordinal from trained where alone
union all
select distinct model_id, row_id, source_no, ordinal from trained where not alone;

-- which sources a model was trained on, with how many rows
create view model_sources with (defer_binding) as
with inputs as (
  select distinct i.*, unnest(d.source_nos::bigint[]) as source_no
  from model_inputs i
  join datasets d on d.digest = i.digest and d.run_id = i.dataset_run
),
declared as (
  select run_id, source_no, arg_max(origin, seq) as origin, arg_max(licence, seq) as licence
  from sources
  group by all
)
select i.model_id, i.name, i.run_id, i.source_no, f.source, s.origin, s.licence,
       f.rows - coalesce(c.rows, 0) as rows
from inputs i
join source_facts f using (source_no)
left join declared s on s.run_id = i.run_id and s.source_no = i.source_no
left join model_loss_counts c on c.seq = i.seq and c.source_no = i.source_no;

-- everything that rows of a source reached
create view source_impact with (defer_binding) as
with reached as (
  select distinct source_no, source, model_id, name, run_id from model_sources where rows > 0
)
select distinct s.source_no, s.source, 'dataset' as kind, s.digest, o.stage as name
from dataset_sources s
join datasets d using (digest, run_id)
left join step_origins o on o.step_id = d.step_id
where s.rows > 0
union all
select distinct source_no, source, 'model', model_id, name from reached
union all
select distinct r.source_no, r.source, 'export', e.export_id, e.name
from reached r
join exports e on e.model = r.model_id or (e.model = r.name and e.run_id = r.run_id);

-- how much of each data set is declared to be synthetic
create view synthetic_share with (defer_binding) as
with declared as (
  select run_id, source_no, bool_or(coalesce(synthetic, false)) as synthetic
  from sources
  group by all
)
select s.run_id, s.digest as dataset,
       sum(s.rows)::bigint as rows,
       coalesce(sum(s.rows) filter (d.synthetic), 0)::bigint as declared_rows,
       case when sum(s.rows) > 0
            then coalesce(sum(s.rows) filter (d.synthetic), 0)::double / sum(s.rows)
       end as declared_share
from dataset_sources s
left join declared d using (run_id, source_no)
group by all;

-- sources that nobody vouched for, by the newest word of the run on each
create view unsigned_inputs with (defer_binding) as
select run_id, source_no, name, uri, trust
from sources
qualify row_number() over (partition by run_id, source_no order by seq desc) = 1
    and trust is distinct from 'verified';

-- simple composition: an upper bound of what was spent, looser than the accountant's;
-- a step that was reused spent nothing
create view privacy_spend with (defer_binding) as
select dataset, unit, sum(delta) as delta, sum(epsilon) as epsilon_sum_bound, count(*) as events
from privacy_events
where step_id is null or step_id not in (
  select step_id from steps where reused_from is not null and step_id is not null
)
group by all;

-- models and exports that rows reached which were erased since: pending until trained anew
create view erased_models with (defer_binding) as
select e.kind, e.digest, e.name, m.run_id, e.erasure_id, e.rows, e.remedy, e.replaced_by,
  q.requested_at
from (
  select kind, digest, erasure_id, arg_max(name, seq) as name, arg_max(rows, seq) as rows,
    arg_max(remedy, seq) as remedy, coalesce(arg_max(replaced_by, seq), '') as replaced_by
  from erased
  group by all
) e
join erasures q using (erasure_id)
left join (
  select model_id as digest, arg_max(run_id, seq) as run_id from models group by all
  union all
  select export_id, arg_max(run_id, seq) from exports group by all
) m using (digest)
where e.kind in ('model', 'export');

-- which columns each column was made from, in each run
create view column_lineage with (defer_binding) as
select o.run_id, o.stage, e.column_out, e.column_in, e.how
from column_lineage_edges e
join step_origins o on o.origin = e.step_id;

-- the Merkle root over the first n records, as anybody can recompute it
create macro log_root_at(n) as table
with recursive level(hashes) as (
  select coalesce(list(leaf order by seq), []) from log_entries where seq <= n
  union all
  select list_transform(range(0, len(hashes), 2), lambda i:
    case when i + 1 < len(hashes)
         then sha256('\x01'::blob || unhex(hashes[i + 1]) || unhex(hashes[i + 2]))
         else hashes[i + 1] end)
  from level
  where len(hashes) > 1
)
select n::ubigint as size, coalesce(hashes[1], sha256(''::blob)) as root
from level
where len(hashes) <= 1;

-- the Merkle root over the whole journal
create view log_root with (defer_binding) as
from log_root_at((select coalesce(max(seq), 0) from log_entries));
