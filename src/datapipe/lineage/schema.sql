-- SPDX-License-Identifier: Apache-2.0
-- The promised tables. One column a line, its meaning behind it: the reader of this file, the page
-- manifests/lineage/tables.md and the check of every record that is appended all use these lines.
-- `seq` is the number of the journal record that a line comes from. Lines are only ever added.

create table runs (                 -- one line a run, when it starts
  seq ubigint,                      -- journal record
  run_id varchar,                   -- id of the run
  pipeline varchar,                 -- name of the pipeline
  seed bigint,                      -- seed that every random choice derives from
  started_at timestamp,             -- UTC
  code_digest varchar,              -- digest of the code of all its stages
  environment json,                 -- versions of Python, engines and the machine
  params json                       -- the plan: stages and their parameters
);

create table run_events (           -- what became of a run; its state is the newest event
  seq ubigint,                      -- journal record
  run_id varchar,                   -- the run
  event varchar,                    -- started, finished, stopped, failed or abandoned
  recorded_at timestamp,            -- UTC
  detail json                       -- verdict, error code and what else belongs to the event
);

create table steps (                -- one line a finished step of a run, reused ones too
  seq ubigint,                      -- journal record
  step_id varchar,                  -- id of the step
  run_id varchar,                   -- the run
  position bigint,                  -- place in the pipeline, from 0
  branch_group bigint,              -- steps of one group ran side by side; null outside
  stage varchar,                    -- catalogue key
  version varchar,                  -- version of the stage
  shape varchar,                    -- row, whole, read, or given (rows that a caller handed over)
  key varchar,                      -- reuse key: equal keys promise equal results
  code_digest varchar,              -- digest of the stage's code
  params json,                      -- its parameters
  seed bigint,                      -- its own seed
  rows_in bigint,                   -- rows it was given
  rows_out bigint,                  -- rows it passed on
  rows_aside bigint,                -- rows it set aside
  seconds double,                   -- wall time
  cpu_seconds double,               -- processor time of the process
  peak_bytes bigint,                -- peak resident memory
  reused_from varchar,              -- step whose result was used instead of running; null when it ran
  dataset_in varchar,               -- digest of the rows it was given
  dataset_out varchar,              -- digest of the rows it passed on
  recorded_at timestamp,            -- UTC
  result json                       -- what a later run needs to reuse it
);

create table step_io (              -- every file a step read or wrote
  seq ubigint,                      -- journal record
  step_id varchar,                  -- the step
  run_id varchar,                   -- the run
  role varchar,                     -- in, out, sidecar, rows or artifact
  name varchar,                     -- a short name
  digest varchar                    -- digest of its bytes
);

create table datasets (             -- every set of rows that was stored
  seq ubigint,                      -- journal record
  digest varchar,                   -- digest of the stored file
  step_id varchar,                  -- the step that made it
  run_id varchar,                   -- the run
  rows bigint,                      -- how many rows
  bytes bigint,                     -- size of the file
  schema json,                      -- column names and types
  roles json,                       -- role to columns
  source_nos json,                  -- list of the sources its rows may come from
  ancestor_steps json,              -- list of the steps before it, reused ones under their first id
  object varchar                    -- its file in objects/, by digest
);

create table sources (              -- every source a run read
  seq ubigint,                      -- journal record
  source_no bigint,                 -- its number: the upper 24 bits of its rows' ids
  run_id varchar,                   -- the run
  name varchar,                     -- a short name
  uri varchar,                      -- file, glob or object
  origin varchar,                   -- who made or sold it
  licence varchar,                  -- SPDX expression or name; empty when not declared
  consent varchar,                  -- granted, denied or empty
  synthetic boolean,                -- as declared; null when not declared
  generator varchar,                -- the model that made it, when declared
  digest varchar,                   -- digest of its bytes
  rows bigint,                      -- how many rows it has
  trust varchar,                    -- unsigned, verified or invalid
  signer varchar,                   -- key id that signed it
  files json                        -- list of [path, rows] in reading order
);

create table source_numbers (       -- which content got which number in this store
  seq ubigint,                      -- journal record
  source_no bigint,                 -- 1 .. 2**24 - 1
  digest varchar,                   -- digest of its bytes
  name varchar,                     -- a short name
  rows bigint                       -- how many rows it has
);

create table findings (             -- what steps thought of the data
  seq ubigint,                      -- journal record
  finding_id varchar,               -- id of the finding
  step_id varchar,                  -- the step
  run_id varchar,                   -- the run
  kind varchar,                     -- family.what
  verdict varchar,                  -- clean, suspect, fail or not_evaluated
  severity varchar,                 -- info, low, medium or high
  value double,                     -- the figure; null when not identifiable
  low double,                       -- lower bound of its interval
  high double,                      -- upper bound
  n bigint,                         -- observations it rests on
  method varchar,                   -- how the interval was made
  level double,                     -- coverage of the interval
  unit varchar,                     -- unit; empty for a pure number
  p_value double,                   -- evidence against clean; null where there is no test
  q_value double,                   -- after Benjamini-Hochberg over the run
  says varchar,                     -- one sentence
  columns json,                     -- list of the columns it is about
  details json,                     -- what it names: trigger, class pair, source, predicate
  remedy varchar,                   -- one action that mends it
  rows_object varchar               -- file in objects/ with a line for every row looked at
);

create table row_findings (         -- rows that were flagged or acted on
  seq ubigint,                      -- journal record
  finding_id varchar,               -- the finding
  step_id varchar,                  -- the step
  run_id varchar,                   -- the run
  kind varchar,                     -- kind of the finding
  row_id ubigint,                   -- the row
  score double,                     -- higher is worse
  p_value double,                   -- the row's own, where there is one
  flagged boolean,                  -- whether the detector flagged it
  action varchar,                   -- what was done: quarantine, relabel, weight or empty
  reason varchar,                   -- why
  suggested varchar                 -- the label it should have
);

create table row_drops (            -- rows that a step set aside; the view step_drops adds the step
  seq ubigint,                      -- journal record, which names the step once for all its rows
  row_id ubigint,                   -- the row
  reason varchar                    -- why
);

create table row_drop_counts (      -- how many rows each record of row_drops set aside
  seq ubigint,                      -- journal record
  source_no ubigint,                -- their source
  reason varchar,                   -- why; null where a step gave more than 256 reasons
  rows bigint,                      -- how many
  again bigint,                     -- those among them that a step beside it had set aside already
  first_ordinal ubigint,            -- the first of them in its source
  last_ordinal ubigint              -- the last of them
);

create table row_drop_blocks (      -- the same rows by block of 8,192 places: few rows are found without a scan
  seq ubigint,                      -- journal record; one whose rows have more than 90 reasons has no blocks
  block ubigint,                    -- upper 51 bits of its rows' ids
  taken bit,                        -- a bit for each place of the block: whether the row was set aside
  codes varchar,                    -- a letter for each row that was, in the order of places
  reasons json                      -- reasons: the first is that of the letter #, and so on in ASCII
);

create table row_drop_steps (       -- which step each record of row_drops belongs to
  seq ubigint,                      -- journal record
  step_id varchar,                  -- the step
  run_id varchar                    -- the run
);

create table row_edges (            -- rows that a step made from several, or several from one
  seq ubigint,                      -- journal record
  step_id varchar,                  -- the step
  run_id varchar,                   -- the run
  row_id ubigint,                   -- a row of its result
  made_from ubigint,                -- a row it was made from; the row itself tells how often it is there
  lines bigint                      -- by how much its lines made from that row went up or down
);

create table dataset_loss_counts (  -- how many rows of each source each data set has lost, when it was stored
  seq ubigint,                      -- journal record of the data set
  digest varchar,                   -- the data set
  run_id varchar,                   -- the run
  source_no ubigint,                -- the source
  rows bigint                       -- how many of its rows are in no line of the data set
);

create table label_changes (        -- labels that a step changed
  seq ubigint,                      -- journal record
  step_id varchar,                  -- the step
  run_id varchar,                   -- the run
  row_id ubigint,                   -- the row
  "before" varchar,                 -- label before
  "after" varchar,                  -- label after
  why varchar,                      -- reason
  posterior double,                 -- probability of the new label
  changed_by varchar                -- stage or person
);

create table models (               -- models that were trained
  seq ubigint,                      -- journal record
  model_id varchar,                 -- digest of its file
  step_id varchar,                  -- the step
  run_id varchar,                   -- the run
  name varchar,                     -- a short name
  dataset varchar,                  -- digest of the rows it was trained on, held-out ones included
  media_type varchar,               -- IANA media type
  bytes bigint,                     -- size of the file
  facts json,                       -- architecture, classes, sizes
  measures json,                    -- figures, each an estimate
  held_out_object varchar           -- file in objects/ with the rows that did not train; null for none
);

create table model_held_out (       -- rows of a model's data set that did not train it
  seq ubigint,                      -- journal record
  model_id varchar,                 -- the model
  step_id varchar,                  -- the step
  row_id ubigint                    -- the row
);

create table model_held_out_counts (-- how many rows of each source did not train a model
  seq ubigint,                      -- journal record
  model_id varchar,                 -- the model
  source_no ubigint,                -- the source
  rows bigint,                      -- how many
  first_ordinal ubigint,            -- the first of them in its source
  last_ordinal ubigint              -- the last of them
);

create table model_loss_counts (    -- how many rows of each source did not train each model
  seq ubigint,                      -- journal record of the model
  model_id varchar,                 -- the model
  digest varchar,                   -- its data set
  dataset_run varchar,              -- the run of the data set's record
  source_no ubigint,                -- the source
  rows bigint                       -- how many of its rows trained the model in no line
);

create table exports (              -- models made ready for use
  seq ubigint,                      -- journal record
  export_id varchar,                -- digest of its file
  step_id varchar,                  -- the step
  run_id varchar,                   -- the run
  name varchar,                     -- a short name
  model varchar,                    -- digest or name of the model it was made from
  media_type varchar,               -- IANA media type
  bytes bigint,                     -- size of the file
  facts json,                       -- format, scheme, sizes
  measures json                     -- figures, each an estimate
);

create table artifacts (            -- tables, pictures and receipts
  seq ubigint,                      -- journal record
  digest varchar,                   -- digest of its file
  step_id varchar,                  -- the step
  run_id varchar,                   -- the run
  name varchar,                     -- a short name
  kind varchar,                     -- table, picture, receipt or parent (a signed statement about a source)
  media_type varchar,               -- IANA media type
  bytes bigint,                     -- size of the file
  facts json,                       -- what describes it
  measures json                     -- figures, each an estimate
);

create table privacy_events (       -- uses of a privacy budget
  seq ubigint,                      -- journal record
  step_id varchar,                  -- the step
  run_id varchar,                   -- the run
  dataset varchar,                  -- digest of the rows that were charged
  mechanism varchar,                -- such as dp-sgd
  sigma double,                     -- noise multiplier
  sample_rate double,               -- Poisson sampling rate
  steps bigint,                     -- noisy steps
  epsilon double,                   -- spent by these steps alone at delta
  delta double,                     -- failure probability
  clip double,                      -- bound of a row's gradient norm
  unit varchar,                     -- row, subject or client
  recorded_at timestamp             -- UTC
);

create table attestations (         -- signed statements
  seq ubigint,                      -- journal record
  digest varchar,                   -- digest of the envelope
  run_id varchar,                   -- the run
  predicate_type varchar,           -- what kind of statement
  subjects json,                    -- list of digests it speaks about
  keyids json,                      -- list of the keys that signed
  object varchar                    -- its file in objects/, by digest
);

create table erasures (             -- requests of persons that were carried out
  seq ubigint,                      -- journal record
  erasure_id varchar,               -- id of the erasure, and of the run that it is recorded as
  commitment varchar,               -- sha256 of a salt that is not kept and the person's id
  requested_at timestamp,           -- UTC
  rows bigint,                      -- how many rows were erased
  recorded_at timestamp             -- UTC
);

create table erased (               -- what an erasure rewrote, removed or marked
  seq ubigint,                      -- journal record
  erasure_id varchar,               -- the erasure
  kind varchar,                     -- dataset, table, model, export, file, statement or record
  digest varchar,                   -- digest of the object; of what is left, for a record
  name varchar,                     -- a short name
  rows bigint,                      -- how many of the erased rows it held or was made from
  remedy varchar,                   -- rewritten, retired, retrained, redacted or pending; the last one holds
  replaced_by varchar,              -- digest of the object that took its place; empty for none
  record ubigint                    -- number of the record that was redacted; null for objects
);

create table column_lineage_edges ( -- which columns a column was made from
  seq ubigint,                      -- journal record
  step_id varchar,                  -- the step
  run_id varchar,                   -- the run
  column_out varchar,               -- the column that was made; * for all that are not named
  column_in varchar,                -- a column it was made from; empty for a constant
  how varchar                       -- copied, derived or filtered
);

create table log_entries (          -- the journal itself: one line a record
  seq ubigint,                      -- journal record, from 1
  kind varchar,                     -- the table it belongs to
  leaf varchar,                     -- its leaf in the Merkle log, hexadecimal
  recorded_at timestamp             -- UTC
);

create table log_checkpoints (      -- roots of the journal that were handed out
  seq ubigint,                      -- journal record
  size ubigint,                     -- how many records the root covers
  root varchar,                     -- Merkle root, hexadecimal
  note varchar,                     -- the signed note as text
  recorded_at timestamp             -- UTC
);

create table meta (                 -- how far the index has come; the newest line counts
  seq ubigint,                      -- last journal record that is in the index
  segment ubigint,                  -- journal file it has been read to
  "offset" ubigint,                 -- byte in that file
  chain varchar,                    -- chain up to there, hexadecimal
  schema_version ubigint,           -- version of these tables and views
  fingerprint varchar,              -- digest of the text they were made from
  written_at timestamp              -- UTC
);
