//! Files that are created.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn create(content: &str) -> Event {
    event(
        "file.create",
        &json!({"metadata": {"name": "n"}, "content": content, "content_type": "text/plain"}),
    )
}

#[tokio::test]
async fn a_small_file_is_created_with_the_same_id_however_often_it_is_tried() {
    let there = Arc::new(Mutex::new(Vec::<String>::new()));
    let api = Api::new({
        let (there, given) = (Arc::clone(&there), Arc::new(AtomicUsize::new(0)));
        move |seen| {
            let path = seen.uri.path();
            if path == "/drive/v3/files" && seen.method == Method::GET {
                assert!(
                    seen.uri
                        .query()
                        .unwrap()
                        .contains("appProperties+has+%7B+key%3D%27weir%27")
                );
                return told(200, &json!({"files": []}));
            }
            if path.ends_with("generateIds") {
                let n = given.fetch_add(1, Ordering::SeqCst);
                return told(200, &json!({"ids": [format!("id-{n}")], "space": "drive"}));
            }
            let mut there = there.lock().unwrap();
            if seen.method == Method::GET {
                let known = there.iter().any(|id| path.ends_with(id.as_str()));
                return told(if known { 200 } else { 404 }, &json!({"id": "found"}));
            }
            let text = String::from_utf8_lossy(&seen.body).into_owned();
            let id = text
                .split("\"id\":\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
                .unwrap_or_default();
            if there.iter().any(|known| known == id) {
                return told(
                    409,
                    &json!({"error": {"code": 409, "errors": [{"reason": "fileIdInUse"}]}}),
                );
            }
            there.push(id.to_owned());
            told(200, &json!({"id": id}))
        }
    })
    .await;
    let stage = Stage::with_redis(&KIND, &api.url, &[TOKEN]).await;
    let (first, second) = (create("hello"), create("other"));
    let turn = stage.turn().await;
    let earlier = Earlier {
        accepted: SystemTime::now(),
        ago: Duration::ZERO,
    };
    let found = stage.handler.look_up(&first, earlier, &turn).await.unwrap();
    assert_eq!(found, Found::Nothing, "no id was kept, and no file has the mark");
    assert_eq!(code(&stage.handle(&first).await), ("done", "http_200".into()));
    assert_eq!(code(&stage.handle(&first).await), ("done", "found".into()));
    assert_eq!(code(&stage.handle(&second).await), ("done", "http_200".into()));
    assert_eq!(*there.lock().unwrap(), ["id-0", "id-1"]);
    assert!(matches!(
        stage.handler.look_up(&first, earlier, &turn).await.unwrap(),
        Found::Done(_)
    ));
    there.lock().unwrap().clear();
    assert_eq!(
        stage.handler.look_up(&first, earlier, &turn).await.unwrap(),
        Found::Nothing
    );
    let seen = api.seen();
    let upload = seen.iter().find(|seen| seen.method == Method::POST).unwrap();
    assert!(
        upload
            .header("content-type")
            .starts_with("multipart/related; boundary=weir-")
    );
    let text = String::from_utf8_lossy(&upload.body);
    assert!(
        text.contains("Content-Type: text/plain\r\n\r\nhello\r\n--weir-"),
        "{text}"
    );
    assert_eq!(stage.charges(&first), [("requests".to_owned(), 1)]);
    // Without Redis nobody could find it again.
    let stage = Stage::new(&KIND, &api.url, &[TOKEN]);
    api.seen();
    assert_eq!(code(&stage.handle(&first).await), ("transient", "redis".into()));
    assert!(api.seen().is_empty());
}

/// An upload in pieces: breaks off now and then, and tells how much has arrived.
#[tokio::test]
async fn a_large_file_goes_in_pieces_that_go_again() {
    const TOTAL: usize = 20 * 1024 * 1024;
    let arrived = Arc::new(Mutex::new(Vec::<u8>::new()));
    let calls = Arc::new(AtomicUsize::new(0));
    let origin = Arc::new(Mutex::new(String::new()));
    let api = Api::new({
        let (arrived, origin) = (Arc::clone(&arrived), Arc::clone(&origin));
        move |seen| {
            if seen.uri.path().ends_with("generateIds") {
                return told(200, &json!({"ids": ["big"]}));
            }
            if seen.method == Method::POST {
                assert_eq!(seen.header("x-upload-content-length"), TOTAL.to_string());
                let session = format!("{}/upload/drive/v3/files?upload_id=1", origin.lock().unwrap());
                return (200, vec![("location", session)], vec![]);
            }
            let mut arrived = arrived.lock().unwrap();
            let range = seen.header("content-range");
            let n = calls.fetch_add(1, Ordering::SeqCst);
            if let Some(start) = range
                .strip_prefix("bytes ")
                .and_then(|range| range.split('-').next()?.parse::<usize>().ok())
            {
                assert_eq!(start, arrived.len(), "{range}");
                // Of the first piece only a part arrives; the second is lost altogether.
                let take = match n {
                    0 => 256 * 1024,
                    2 => 0,
                    _ => seen.body.len(),
                };
                arrived.extend_from_slice(&seen.body[..take]);
                if n == 0 || n == 2 {
                    return (503, vec![], vec![]);
                }
            }
            if arrived.len() == TOTAL {
                return told(200, &json!({"id": "big"}));
            }
            let headers = match arrived.len() {
                0 => vec![],
                length => vec![("range", format!("bytes=0-{}", length - 1))],
            };
            (308, headers, vec![])
        }
    })
    .await;
    api.url.clone_into(&mut origin.lock().unwrap());
    let stage = Stage::with_redis(&KIND, &api.url, &[TOKEN]).await;
    let content: String = (0..TOTAL).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    let big = create(&content);
    assert_eq!(code(&stage.handle(&big).await), ("done", "http_200".into()));
    assert!(
        *arrived.lock().unwrap() == content.as_bytes(),
        "what arrived is what was sent"
    );
    assert_eq!(stage.charges(&big), [("requests".to_owned(), 4)]);
}

#[tokio::test]
async fn uploads_that_lead_astray() {
    let content = "x".repeat(6 << 20);
    for (location, status, headers, class, code_of) in [
        (
            Some("http://127.0.0.1:1/upload"),
            200,
            vec![],
            "permanent",
            "upload",
        ),
        (
            Some("https://evil.example/upload"),
            200,
            vec![],
            "permanent",
            "upload",
        ),
        (Some("not a URL"), 200, vec![], "permanent", "upload"),
        (None, 200, vec![], "permanent", "upload"),
        (
            Some(""),
            308,
            vec![("range", "bytes=0-99999999999".to_owned())],
            "transient",
            "answer",
        ),
        (
            Some(""),
            308,
            vec![("range", "bytes=7-8".to_owned())],
            "transient",
            "answer",
        ),
        (Some(""), 308, vec![], "transient", "upload"),
        (Some(""), 404, vec![], "permanent", "http_404"),
    ] {
        let origin = Arc::new(Mutex::new(String::new()));
        let api = Api::new({
            let (origin, headers) = (Arc::clone(&origin), headers.clone());
            move |seen| {
                if seen.uri.path().ends_with("generateIds") {
                    return told(200, &json!({"ids": ["big"]}));
                }
                if seen.method == Method::PUT {
                    return (status, headers.clone(), vec![]);
                }
                let own = format!("{}/upload", origin.lock().unwrap());
                let target = location.map(|location| {
                    if location.is_empty() {
                        own
                    } else {
                        location.to_owned()
                    }
                });
                (
                    200,
                    target.map(|target| ("location", target)).into_iter().collect(),
                    vec![],
                )
            }
        })
        .await;
        api.url.clone_into(&mut origin.lock().unwrap());
        let stage = Stage::with_redis(&KIND, &api.url, &[TOKEN]).await;
        assert_eq!(
            code(&stage.handle(&create(&content)).await),
            (class, code_of.into()),
            "{location:?} {status}"
        );
    }
}
