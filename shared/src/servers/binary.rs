//! Where the servers' binaries are on this machine.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::ServerError;

/// Finds `binary`: what `setting` names, else `.tools/bin` of the nearest directory above the current one or above
/// this executable, else beside this executable, else on `PATH`.
pub(super) fn find(binary: &'static str, setting: &'static str) -> Result<PathBuf, ServerError> {
    if let Some(path) = named_by(setting) {
        return if runnable(&path) {
            Ok(path)
        } else {
            Err(ServerError::NotRunnable {
                binary,
                setting,
                path,
            })
        };
    }
    search(binary).ok_or_else(|| missing(binary, setting))
}

/// Finds the directory that holds `postgres` and `initdb`.
pub(super) fn find_postgres() -> Result<PathBuf, ServerError> {
    const SETTING: &str = "WEIR_PRIVATE_POSTGRES";
    if let Some(path) = named_by(SETTING) {
        return if holds_postgres(&path) {
            Ok(path)
        } else {
            Err(ServerError::NotRunnable {
                binary: "postgres with initdb",
                setting: SETTING,
                path,
            })
        };
    }
    // A link such as /usr/local/bin/postgres is followed, since the programs beside it belong to the same version.
    search("postgres")
        .and_then(|path| fs::canonicalize(path).ok())
        .and_then(|path| path.parent().map(Path::to_path_buf))
        .filter(|dir| holds_postgres(dir))
        .or_else(newest_debian_postgres)
        .ok_or_else(|| missing("postgres", SETTING))
}

/// Finds a program that comes with Postgres: in its directory, else as [`find`] does.
pub(super) fn find_beside(dir: &Path, binary: &'static str) -> Result<PathBuf, ServerError> {
    let beside = dir.join(binary);
    if runnable(&beside) {
        return Ok(beside);
    }
    search(binary).ok_or_else(|| missing(binary, "WEIR_PRIVATE_POSTGRES"))
}

fn named_by(setting: &str) -> Option<PathBuf> {
    env::var_os(setting)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The current directory, and that of this executable, a link to it followed.
fn begins() -> [Option<PathBuf>; 2] {
    let exe = env::current_exe().ok();
    let exe_dir = exe.and_then(|exe| exe.parent().map(Path::to_path_buf));
    [env::current_dir().ok(), exe_dir]
}

fn missing(binary: &'static str, setting: &'static str) -> ServerError {
    let begins = begins();
    let begins: Vec<_> = begins
        .iter()
        .flatten()
        .map(|dir| dir.display().to_string())
        .collect();
    let begins = begins.join(" and ");
    let looked =
        format!("in .tools/bin of {begins} and of the folders above, beside this program, and in PATH");
    ServerError::Missing {
        binary,
        setting,
        looked,
    }
}

fn search(binary: &str) -> Option<PathBuf> {
    let begins = begins();
    let tools = begins
        .iter()
        .flatten()
        .flat_map(|dir| dir.ancestors())
        .map(|dir| dir.join(".tools/bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    tools
        .chain(begins[1].clone())
        .chain(env::split_paths(&path))
        .map(|dir| dir.join(binary))
        .find(|candidate| candidate.is_absolute() && runnable(candidate))
}

fn newest_debian_postgres() -> Option<PathBuf> {
    fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, dir)| holds_postgres(dir))
        .max_by_key(|(version, _)| *version)
        .map(|(_, dir)| dir)
}

fn holds_postgres(dir: &Path) -> bool {
    runnable(&dir.join("postgres")) && runnable(&dir.join("initdb"))
}

fn runnable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
