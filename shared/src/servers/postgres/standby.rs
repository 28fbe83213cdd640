//! A standby of a private server: a copy that replays what the primary writes and answers questions.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;

use super::{Postgres, PostgresKind, PostgresOptions, Server, run};
use crate::servers::ServerError;

impl Server<PostgresKind> {
    /// Copies this server and starts the copy as its standby, which follows it over a connection of its own. It returns when
    /// the standby answers; what the primary writes meanwhile it replays later.
    ///
    /// # Errors
    /// The copy could not be made, or did not start.
    pub async fn standby(&self, options: PostgresOptions) -> Result<Postgres, ServerError> {
        let (kind, port) = PostgresKind::new(options).await?;
        let partial = kind.cluster.with_extension("partial");
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&partial)
            .map_err(ServerError::io(format!("making {}", partial.display())))?;
        if let Some(owner) = &kind.owner {
            owner.give(&partial)?;
        }
        let mut argv = kind.as_owner("pg_basebackup");
        argv.push("--pgdata".into());
        argv.push(partial.clone().into());
        let from = self.port().to_string();
        let arguments = ["-h", "127.0.0.1", "-p", &from, "-U", "weir", "-w", "-X", "stream"];
        argv.extend(arguments.map(OsString::from));
        argv.extend(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"].map(OsString::from));
        run("pg_basebackup", &argv).await?;
        fs::rename(&partial, &kind.cluster).map_err(ServerError::io(format!(
            "renaming {} to {}",
            partial.display(),
            kind.cluster.display()
        )))?;
        Self::launch(kind, port).await
    }
}
