#![allow(clippy::unwrap_used, reason = "tests panic on failure")]
use super::*;
use crate::provider::{clock::Clock, exchange::ask};

const KEY: (&str, &str) = ("authorization", "Bearer ya29.x");

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_default()
}

fn one_of(path: &str, store: &Store) -> Reply {
    serve(&ask(Method::GET, path, &[KEY], ""), Clock::new(0).now(), store)
}

#[test]
fn a_batch_counts_its_calls_and_answers_each() {
    let text = "--b\r\nContent-Type: application/http\r\nContent-ID: <item-0>\r\n\r\n\
        GET /drive/v3/files/a?fields=id HTTP/1.1\r\n\r\n--b\r\nContent-Type: application/http\r\n\
        Content-ID: <item-1>\r\n\r\nPATCH /drive/v3/files/missing HTTP/1.1\r\nContent-Type: application/json\r\n\
        Content-Length: 2\r\n\r\n{}\r\n--b--\r\n";
    let kind = ("content-type", "multipart/mixed; boundary=b");
    let batch = ask(Method::POST, "/batch/drive/v3", &[KEY, kind], text);
    assert!(refuse_wrong(&batch).is_none());
    assert_eq!(demands(&DriveLimits::default(), &batch)[0].cost, 2);
    let reply = serve(&batch, Clock::new(0).now(), &Store::default());
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(
        text.contains("<response-item-0>\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{text}"
    );
    assert!(
        text.contains("<response-item-1>\r\n\r\nHTTP/1.1 404 Not Found\r\n"),
        "{text}"
    );
    let broken = ask(Method::POST, "/batch/drive/v3", &[KEY, kind], "--b");
    assert_eq!(refuse_wrong(&broken).unwrap().status, StatusCode::BAD_REQUEST);
}

#[test]
fn an_id_is_used_once() {
    let mut store = Store::default();
    let now = Clock::new(0).now();
    let given = body(&one_of("/drive/v3/files/generateIds?count=1", &store));
    let id = given["ids"][0].as_str().unwrap().to_owned();
    let look = |store: &Store| one_of(&format!("/drive/v3/files/{id}"), store).status;
    assert_eq!(look(&store), StatusCode::NOT_FOUND);
    let text = format!(
        "--r\r\nContent-Type: application/json\r\n\r\n{{\"id\": \"{id}\"}}\r\n--r\r\nContent-Type: a/b\r\n\r\nhello\r\n--r--\r\n"
    );
    let kind = ("content-type", "multipart/related; boundary=r");
    let upload = ask(
        Method::POST,
        "/upload/drive/v3/files?uploadType=multipart",
        &[KEY, kind],
        &text,
    );
    assert_eq!(body(&serve(&upload, now, &store))["size"], "5");
    store.keep(&upload);
    assert_eq!((look(&store), store.len()), (StatusCode::OK, 1));
    let again = serve(&upload, now, &store);
    assert_eq!((again.status, again.effect), (StatusCode::CONFLICT, false));
}

#[test]
fn a_large_file_arrives_in_pieces() {
    let mut store = Store::default();
    let now = Clock::new(0).now();
    let size = ("x-upload-content-length", "8");
    let begin = ask(
        Method::POST,
        "/upload/drive/v3/files?uploadType=resumable",
        &[KEY, size],
        r#"{"id": "f"}"#,
    );
    let reply = serve(&begin, now, &store);
    assert!(
        reply.headers["location"]
            .to_str()
            .unwrap()
            .ends_with("upload_id=f")
    );
    store.keep(&begin);
    let mut put = |range: &str, piece: &str| {
        let put = ask(
            Method::PUT,
            "/upload/drive/v3/files?upload_id=f",
            &[KEY, ("content-range", range)],
            piece,
        );
        let reply = serve(&put, now, &store);
        store.keep(&put);
        (
            reply.status.as_u16(),
            reply
                .headers
                .get("range")
                .map(|range| range.to_str().unwrap().to_owned()),
        )
    };
    assert_eq!(put("bytes */8", ""), (308, None));
    assert_eq!(put("bytes 0-4/8", "hello"), (308, Some("bytes=0-4".into())));
    assert_eq!(put("bytes 0-4/8", "hello"), (400, None));
    assert_eq!(put("bytes 5-7/8", "you").0, 200);
    assert_eq!(store.len(), 1);
}

#[test]
fn the_feed_ends() {
    let store = Store::default();
    let page = |token: &str| body(&one_of(&format!("/drive/v3/changes?pageToken={token}"), &store));
    assert_eq!(
        (
            page("0")["changes"].as_array().unwrap().len(),
            &page("0")["nextPageToken"]
        ),
        (10, &json!("10"))
    );
    assert_eq!(
        (&page("20")["newStartPageToken"], &page("25")["changes"]),
        (&json!("25"), &json!([]))
    );
    assert_eq!(
        one_of("/drive/v3/changes?pageToken=x", &store).status,
        StatusCode::BAD_REQUEST
    );
}

#[test]
fn tokens_are_given_for_assertions_and_calls_need_one() {
    let form = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=a.b.c";
    let asked = |form: &str| {
        serve(
            &ask(Method::POST, "/drive/token", &[], form),
            Clock::new(0).now(),
            &Store::default(),
        )
    };
    assert!(body(&asked(form))["access_token"].is_string());
    assert_eq!(
        asked("grant_type=x&assertion=a.b.c").status,
        StatusCode::BAD_REQUEST
    );
    let stranger = ask(Method::GET, "/drive/v3/files/a", &[], "");
    assert_eq!(refuse_wrong(&stranger).unwrap().status, StatusCode::UNAUTHORIZED);
    assert_eq!((refuse(0).status.as_u16(), refuse(1).status.as_u16()), (403, 429));
}
