//! Repositories on a server: git's own, on a loopback port.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use analysis::{AnalysisError, Source};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::world::{World, commit, git};

/// `git http-backend` behind a loopback port. Paths that begin with `/moved` are redirected, `/private` asks for a
/// password, `/broken` talks nonsense, `/hang` says nothing.
struct Server {
    port: u16,
    packs: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(root: std::path::PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let packs = Arc::new(AtomicU64::new(0));
        let counted = packs.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (root, packs) = (root.clone(), counted.clone());
                // A client that goes away is no failure of the server.
                tokio::spawn(async move { serve(stream, root, packs).await.ok() });
            }
        });
        Self { port, packs, task }
    }

    fn url(&self, path: &str) -> Source {
        Source::parse(&format!("http://127.0.0.1:{}/{path}", self.port)).unwrap()
    }
}

async fn serve(stream: TcpStream, root: std::path::PathBuf, packs: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let mut parts = first.split_whitespace();
    let (method, target) = (
        parts.next().unwrap_or_default().to_owned(),
        parts.next().unwrap_or_default().to_owned(),
    );
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut backend = Command::new("git");
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "content-type" => drop(backend.env("CONTENT_TYPE", value)),
            "git-protocol" => drop(backend.env("GIT_PROTOCOL", value)),
            "authorization" | "cookie" => panic!("credentials were sent"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    if path.starts_with("/hang") {
        return std::future::pending().await;
    }
    let fixed = match path.split('/').nth(1) {
        Some("moved") => Some("HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/secret?x=1\r\n"),
        Some("private") => Some("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n"),
        Some("busy") => Some("HTTP/1.1 503 Busy\r\n"),
        Some("broken") => {
            Some("HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n")
        }
        Some("page") => Some("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"),
        _ => None,
    };
    if let Some(fixed) = fixed {
        let answer = format!("{fixed}Content-Length: 9\r\nConnection: close\r\n\r\n00zznonse");
        return stream.get_mut().write_all(answer.as_bytes()).await;
    }
    if method == "POST" && body.windows(13).any(|part| part == b"command=fetch") {
        packs.fetch_add(1, Ordering::Relaxed);
    }
    let mut backend = backend
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_LENGTH", length.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = backend.stdin.take().unwrap();
    stdin.write_all(&body).await?;
    drop(stdin);
    let output = backend.wait_with_output().await?.stdout;
    let text = String::from_utf8_lossy(&output[..output.len().min(2000)]).into_owned();
    let status = text
        .strip_prefix("Status: ")
        .and_then(|rest| rest.split("\r\n").next())
        .unwrap_or("200 OK");
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    stream.get_mut().write_all(head.as_bytes()).await?;
    stream.get_mut().write_all(&output).await
}

async fn world() -> (World, Server) {
    // The process that uses the crate does the same when it starts.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut world = World::new();
    for number in 0..80 {
        world.write(
            &format!("srv/repo/src/f{number}.go"),
            format!("package p\nfunc f{number}() {{}}\n"),
        );
    }
    commit(&world.path().join("srv/repo"));
    world.settings.cache = Some(world.path().join("cache"));
    world.settings.allow_private = true;
    world.settings.roots.clear();
    let server = Server::start(world.path().join("srv")).await;
    (world, server)
}

#[tokio::test]
async fn a_commit_is_fetched_once_and_without_history() {
    let (world, server) = world().await;
    let repo = world.path().join("srv/repo");
    git(&repo, &["tag", "--annotate", "--message=one", "v1"]);
    let first = git(&repo, &["rev-parse", "HEAD"]);
    world.write("srv/repo/src/f0.go", "package p\nfunc changed() {}\n");
    commit(&repo);
    let second = git(&repo, &["rev-parse", "HEAD"]);
    let source = server.url("repo/.git");

    let report = world.run(&source, None).await.unwrap();
    assert_eq!(
        (report.commit.as_ref(), report.totals.files, report.parsed),
        (Some(&second), 80, 80)
    );
    assert_eq!(
        report.source,
        format!("http://127.0.0.1:{}/repo/.git", server.port)
    );
    let again = world.run(&source, Some("main")).await.unwrap();
    assert_eq!((again.parsed, server.packs.load(Ordering::Relaxed)), (0, 1));
    let tagged = world.run(&source, Some("v1")).await.unwrap();
    assert_eq!((tagged.commit.as_ref(), tagged.parsed), (Some(&first), 1));
    let hashed = world.run(&source, Some(&first)).await.unwrap();
    assert_eq!((hashed.commit.as_ref(), hashed.parsed), (Some(&first), 0));
    let full = world.run(&source, Some("refs/heads/main")).await.unwrap();
    assert_eq!(full.commit.as_ref(), Some(&second));
    // The second commit came without the first one.
    for entry in std::fs::read_dir(world.path().join("cache")).unwrap() {
        let path = entry.unwrap().path();
        assert!(!path.to_string_lossy().contains("fetch-"), "{}", path.display());
        if path.to_string_lossy().ends_with(&second) {
            assert_eq!(git(&path, &["rev-list", "--count", &second]), "1");
        }
    }
    let missing = world.run(&source, Some("nowhere")).await;
    assert!(
        matches!(missing, Err(AnalysisError::NotFound(_) | AnalysisError::Fetch(_))),
        "{missing:?}"
    );
    let nothing = world.run(&server.url("nothing.git"), None).await;
    assert!(matches!(nothing, Err(AnalysisError::Fetch(_))), "{nothing:?}");
    assert_eq!(std::fs::read_dir(world.path().join("cache")).unwrap().count(), 2);
}

#[tokio::test]
async fn the_cache_keeps_within_its_bytes() {
    let (mut world, server) = world().await;
    world.settings.cache_bytes = 1;
    let repo = world.path().join("srv/repo");
    for round in 0..3 {
        world.write("srv/repo/x.go", format!("package p // {round}\n"));
        commit(&repo);
        let report = world.run(&server.url("repo/.git"), None).await.unwrap();
        assert_eq!(report.totals.files, 81);
        // What is read now stays, whatever its size.
        assert_eq!(std::fs::read_dir(world.path().join("cache")).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn private_addresses_and_other_schemes_are_refused_by_default() {
    let (mut world, server) = world().await;
    world.settings.allow_private = false;
    let port = server.port;
    for url in [
        format!("http://127.0.0.1:{port}/repo/.git"),
        format!("https://127.0.0.1:{port}/repo/.git"),
        format!("https://[::1]:{port}/repo"),
        format!("https://[::ffff:127.0.0.1]:{port}/repo"),
        format!("https://2130706433:{port}/repo"),
        format!("https://0x7f.1:{port}/repo"),
        "https://169.254.169.254/latest".into(),
        "https://user:hunter2@example.com/repo".into(),
        "https://user@example.com/repo".into(),
        "https://example.com/repo?token=1".into(),
        "http://example.com/repo".into(),
    ] {
        let refused = world.run(&Source::parse(&url).unwrap(), None).await;
        let Err(
            AnalysisError::Refused(why)
            | AnalysisError::NotAllowed {
                setting: "allow_private",
                what: why,
            },
        ) = refused
        else {
            panic!("{url}: {refused:?}")
        };
        assert!(!why.contains("hunter2"), "{why}");
    }
    // A name that leads to a private address is seen when it is resolved.
    let named = Source::parse(&format!("https://localhost:{port}/repo/.git")).unwrap();
    let Err(AnalysisError::Fetch(why)) = world.run(&named, None).await else {
        panic!("fetched")
    };
    assert!(why.contains("no address that is public"), "{why}");
    world.settings.allow_private = true;
    world.settings.cache = None;
    let refused = world.run(&server.url("repo/.git"), None).await;
    assert_eq!(refused.unwrap_err().setting(), Some("cache"));
}

#[tokio::test]
async fn servers_that_misbehave_are_told() {
    let (mut world, server) = world().await;
    for (path, part) in [
        ("moved/repo", "redirects are not followed"),
        ("private/repo", "private repositories are not fetched"),
        ("busy/repo", "503"),
        ("broken/repo", ""),
        ("page/repo", ""),
    ] {
        let failed = world.run(&server.url(path), None).await;
        let Err(AnalysisError::Fetch(why)) = failed else {
            panic!("{path}: {failed:?}")
        };
        assert!(why.contains(part) && !why.contains("x=1"), "{path}: {why}");
    }
    world.settings.fetch_bytes = 1500;
    too_much(world.run(&server.url("repo/.git"), None).await, "fetch_bytes");
    assert_eq!(std::fs::read_dir(world.path().join("cache")).unwrap().count(), 0);
    world.settings.fetch_bytes = 1 << 20;
    assert_eq!(
        world
            .run(&server.url("repo/.git"), None)
            .await
            .unwrap()
            .totals
            .files,
        80
    );
}

fn too_much(result: Result<analysis::Report, AnalysisError>, setting: &str) {
    let error = result.unwrap_err();
    assert!(
        matches!(error, AnalysisError::TooMuch { setting: named, .. } if named == setting),
        "{error:?}"
    );
    assert!(
        !error.is_transient() && error.to_string().contains(setting),
        "{error}"
    );
}

#[tokio::test]
async fn an_object_that_is_too_large_is_so_the_next_time_too() {
    let (mut world, server) = world().await;
    world.write("srv/repo/large.bin", vec![0; 3 << 20]);
    commit(&world.path().join("srv/repo"));
    world.settings.object_bytes = 2 << 20;
    too_much(world.run(&server.url("repo/.git"), None).await, "object_bytes");
    world.settings.object_bytes = 4 << 20;
    let report = world.run(&server.url("repo/.git"), None).await.unwrap();
    assert_eq!(report.totals.files, 80);
}

#[tokio::test]
async fn a_repository_of_many_references_tells_of_those_that_are_asked_for() {
    let (mut world, server) = world().await;
    let repo = world.path().join("srv/repo");
    let id = git(&repo, &["rev-parse", "HEAD"]);
    let packed: Vec<String> = (0..5000)
        .map(|n| format!("{id} refs/pull/{n:04}/head\n"))
        .collect();
    world.write("srv/repo/.git/packed-refs", packed.concat());
    world.settings.reference_bytes = 4 << 10;
    for revision in [None, Some("main"), Some("refs/pull/0042/head"), Some(&*id)] {
        let report = world.run(&server.url("repo/.git"), revision).await.unwrap();
        assert_eq!(report.commit.as_ref(), Some(&id), "{revision:?}");
        std::fs::remove_dir_all(world.path().join("cache")).unwrap();
    }
    // All that begin so.
    too_much(
        world.run(&server.url("repo/.git"), Some("refs/pull")).await,
        "reference_bytes",
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left() {
    let (mut world, server) = world().await;
    let analyzer = analysis::Analyzer::new(world.settings.clone(), world.index.clone());
    let cancel = tokio_util::sync::CancellationToken::new();
    let (source, stop) = (server.url("hang/repo"), cancel.clone());
    let asked = analyzer.analyze(&source, None, &cancel, &|_| {});
    let (ended, ()) = tokio::join!(asked, async move { stop.cancel() });
    assert!(matches!(ended, Err(AnalysisError::Cancelled)), "{ended:?}");
    world.settings.fetch_time = std::time::Duration::from_millis(50);
    let ended = world.run(&source, None).await;
    assert!(
        matches!(
            ended,
            Err(AnalysisError::Fetch(_)
                | AnalysisError::TooMuch {
                    setting: "fetch_time",
                    ..
                })
        ),
        "{ended:?}"
    );
}
