-- What is known of content, wherever it lies: one row for each content and language. `facts` is msgpack and is what an
-- analysis takes back; symbols and imports say the same for questions.
CREATE TABLE analysis.facts (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key     bytea       NOT NULL UNIQUE,
    facts   bytea       NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE analysis.symbols (
    facts      bigint  NOT NULL REFERENCES analysis.facts ON DELETE CASCADE,
    name       text    NOT NULL COLLATE "C",
    kind       text    NOT NULL COLLATE "C",
    parent     text    NOT NULL COLLATE "C",
    first_line integer NOT NULL,
    last_line  integer NOT NULL,
    complexity integer NOT NULL
);
CREATE INDEX symbols_by_name ON analysis.symbols (name);
CREATE INDEX symbols_by_facts ON analysis.symbols (facts);

CREATE TABLE analysis.imports (
    facts bigint  NOT NULL REFERENCES analysis.facts ON DELETE CASCADE,
    path  text    NOT NULL COLLATE "C",
    line  integer NOT NULL
);
CREATE INDEX imports_by_path ON analysis.imports (path);
CREATE INDEX imports_by_facts ON analysis.imports (facts);

-- One analysis. The latest finished one of a source and revision is kept.
CREATE TABLE analysis.runs (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source      text        NOT NULL COLLATE "C",
    revision    text        NOT NULL COLLATE "C",
    commit_id   text        COLLATE "C",
    report      jsonb,
    began_at    timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
-- By hash: a source may be longer than a B-tree's entry.
CREATE INDEX runs_by_source ON analysis.runs USING hash (source);

CREATE TABLE analysis.files (
    run        bigint  NOT NULL REFERENCES analysis.runs ON DELETE CASCADE,
    number     integer NOT NULL,
    path       text    NOT NULL COLLATE "C",
    facts      bigint  NOT NULL REFERENCES analysis.facts,
    language   text    NOT NULL COLLATE "C",
    bytes      bigint  NOT NULL,
    lines      integer NOT NULL,
    code_lines integer NOT NULL,
    complexity integer NOT NULL,
    PRIMARY KEY (run, number)
);
CREATE INDEX files_by_facts ON analysis.files (facts);
CREATE INDEX files_by_path ON analysis.files USING hash (path);
CREATE INDEX files_by_lines ON analysis.files (run, lines DESC);
CREATE INDEX files_by_complexity ON analysis.files (run, complexity DESC);

-- From a file to a file, by number; in Go from a package's first file to another's.
CREATE TABLE analysis.dependencies (
    run       bigint  NOT NULL REFERENCES analysis.runs ON DELETE CASCADE,
    from_file integer NOT NULL,
    to_file   integer NOT NULL,
    PRIMARY KEY (run, to_file, from_file)
);
