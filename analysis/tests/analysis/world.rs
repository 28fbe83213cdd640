//! Folders, repositories and analyzers for the tests.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use analysis::index::memory::MemoryIndex;
use analysis::{AnalysisError, Analyzer, Report, Settings, Source};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A folder for a test, and the settings that allow it.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) settings: Settings,
    pub(crate) index: Arc<MemoryIndex>,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            roots: vec![dir.path().into()],
            threads: 2,
            ..Settings::default()
        };
        Self {
            dir,
            settings,
            index: Arc::new(MemoryIndex::new(64 << 20)),
        }
    }

    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let world = Self::new();
        for (path, text) in files {
            world.write(path, text);
        }
        world
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) async fn analyze(&self) -> Result<Report, AnalysisError> {
        self.analyze_at(self.path(), None).await
    }

    pub(crate) async fn analyze_at(
        &self,
        path: &Path,
        revision: Option<&str>,
    ) -> Result<Report, AnalysisError> {
        self.run(&Source::Path(path.into()), revision).await
    }

    pub(crate) async fn run(&self, source: &Source, revision: Option<&str>) -> Result<Report, AnalysisError> {
        let analyzer = Analyzer::new(self.settings.clone(), self.index.clone());
        analyzer
            .analyze(source, revision, &CancellationToken::new(), &|_| {})
            .await
    }
}

/// Makes a repository of `path` with all its files in one commit.
pub(crate) fn commit(path: &Path) {
    if !path.join(".git").exists() {
        git(path, &["init", "--quiet", "--initial-branch=main"]);
    }
    git(path, &["add", "--all", "--force"]);
    git(path, &["commit", "--quiet", "--allow-empty", "--message=change"]);
}

/// Runs git without anybody's configuration.
pub(crate) fn git(at: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=Weir",
            "-c",
            "user.email=weir@localhost",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(arguments)
        .current_dir(at)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env_remove("GIT_DIR")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
