//! What the index is asked. Only finished runs answer; `source` is what the report calls it.

use sqlx::FromRow;

use super::{IndexError, PostgresIndex};
use crate::report::Report;

/// Where a symbol is.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Place {
    /// The repository.
    pub source: String,
    /// Its revision as it was asked for; empty for HEAD and folders.
    pub revision: String,
    /// The file.
    pub path: String,
    /// What it is, e.g. `function`.
    pub kind: String,
    /// The names it stands in, joined by `.`.
    pub parent: String,
    /// Its first line.
    pub first_line: i32,
    /// Its last line.
    pub last_line: i32,
    /// Its cyclomatic complexity; 0 for what is no function.
    pub complexity: i32,
}

/// A file that imports something.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Importer {
    /// The repository.
    pub source: String,
    /// Its revision as it was asked for; empty for HEAD and folders.
    pub revision: String,
    /// The file.
    pub path: String,
    /// The line of the import.
    pub line: i32,
}

/// A file that depends on another one. In Go the first file of a package stands for it.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Dependent {
    /// The revision as it was asked for; empty for HEAD and folders.
    pub revision: String,
    /// The file.
    pub path: String,
}

/// How large and complex a file is.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct FileSize {
    /// The file.
    pub path: String,
    /// Its language.
    pub language: String,
    /// Bytes.
    pub bytes: i64,
    /// Lines.
    pub lines: i32,
    /// Lines of code.
    pub code_lines: i32,
    /// Its cyclomatic complexity.
    pub complexity: i32,
}

impl PostgresIndex {
    /// Where symbols of this name are, in every repository, at most `limit` of them.
    ///
    /// # Errors
    /// The database does not answer; so with all questions.
    pub async fn where_is(&self, name: &str, limit: u32) -> Result<Vec<Place>, IndexError> {
        const WHERE: &str = "SELECT r.source, r.revision, f.path, s.kind, s.parent, s.first_line, s.last_line, s.complexity
            FROM analysis.symbols AS s JOIN analysis.files AS f USING (facts) JOIN analysis.runs AS r ON r.id = f.run
            WHERE s.name = $1 AND r.finished_at IS NOT NULL
            ORDER BY r.source, r.revision, f.path, s.first_line LIMIT $2";
        Ok(sqlx::query_as(WHERE)
            .bind(name)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?)
    }

    /// Which files import this, as it is written, e.g. `crate::facts::Key`, `os.path`, `react`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn who_imports(&self, spelling: &str, limit: u32) -> Result<Vec<Importer>, IndexError> {
        const WHO: &str = "SELECT r.source, r.revision, f.path, i.line
            FROM analysis.imports AS i JOIN analysis.files AS f USING (facts) JOIN analysis.runs AS r ON r.id = f.run
            WHERE i.path = $1 AND r.finished_at IS NOT NULL
            ORDER BY r.source, r.revision, f.path, i.line LIMIT $2";
        Ok(sqlx::query_as(WHO)
            .bind(spelling)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?)
    }

    /// Which files of a repository depend on this file of it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn who_depends_on(
        &self,
        source: &str,
        path: &str,
        limit: u32,
    ) -> Result<Vec<Dependent>, IndexError> {
        const WHO: &str = "SELECT r.revision, other.path
            FROM analysis.runs AS r JOIN analysis.files AS f ON f.run = r.id AND f.path = $2
            JOIN analysis.dependencies AS d ON d.run = r.id AND d.to_file = f.number
            JOIN analysis.files AS other ON other.run = r.id AND other.number = d.from_file
            WHERE r.source = $1 AND r.finished_at IS NOT NULL ORDER BY r.revision, other.path LIMIT $3";
        let query = sqlx::query_as(WHO).bind(source).bind(path).bind(i64::from(limit));
        Ok(query.fetch_all(&self.pool).await?)
    }

    /// The files with the most lines, of the latest run of a repository.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn largest(&self, source: &str, limit: u32) -> Result<Vec<FileSize>, IndexError> {
        const LARGEST: &str =
            "SELECT path, language, bytes, lines, code_lines, complexity FROM analysis.files
            WHERE run = (SELECT max(id) FROM analysis.runs WHERE source = $1 AND finished_at IS NOT NULL)
            ORDER BY lines DESC, path LIMIT $2";
        Ok(sqlx::query_as(LARGEST)
            .bind(source)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?)
    }

    /// The most complex files, of the latest run of a repository.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn most_complex(&self, source: &str, limit: u32) -> Result<Vec<FileSize>, IndexError> {
        const COMPLEX: &str =
            "SELECT path, language, bytes, lines, code_lines, complexity FROM analysis.files
            WHERE run = (SELECT max(id) FROM analysis.runs WHERE source = $1 AND finished_at IS NOT NULL)
            ORDER BY complexity DESC, path LIMIT $2";
        Ok(sqlx::query_as(COMPLEX)
            .bind(source)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?)
    }

    /// The report of the latest run of a repository and revision.
    ///
    /// # Errors
    /// The database does not answer, or the report was written by a newer version.
    pub async fn report(&self, source: &str, revision: Option<&str>) -> Result<Option<Report>, IndexError> {
        const REPORT: &str = "SELECT report FROM analysis.runs WHERE source = $1 AND revision = $2
            AND finished_at IS NOT NULL ORDER BY id DESC LIMIT 1";
        let query = sqlx::query_scalar(REPORT)
            .bind(source)
            .bind(revision.unwrap_or_default());
        let found: Option<sqlx::types::Json<Report>> = query.fetch_optional(&self.pool).await?;
        Ok(found.map(|report| report.0))
    }
}
