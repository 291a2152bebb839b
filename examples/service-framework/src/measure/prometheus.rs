//! One query, over HTTP. What is asked, and what an answer says, is decided in [`scale::prometheus`](crate::scale::prometheus).

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::scale::prometheus::{ANSWER_BYTES_MAX, number, path};

/// The number that a query has for an answer; or why there is none, with what to do.
pub(super) async fn ask(url: &str, query: &str, longest: Duration) -> Result<f64, String> {
    let remedy = "is Prometheus running there? otherwise correct scale.rule.url";
    match timeout(longest, answer(url, query)).await {
        Ok(Ok(body)) => number(&body).map_err(|why| format!("{url}: {why}")),
        Ok(Err(why)) => Err(format!("{url}: {why}; {remedy}")),
        Err(_) => Err(format!("{url}: no answer within {}; {remedy}", humantime::format_duration(longest))),
    }
}

async fn answer(url: &str, query: &str) -> Result<Bytes, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let uri: Uri = url.parse().map_err(|error| text(&error))?;
    let authority = uri.authority().ok_or("it names no host")?;
    let (host, port) = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect((host, port)).await.map_err(|error| text(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let target = format!("{}{}", uri.path().trim_end_matches('/'), path(query));
    let request = Request::get(target)
        .header(header::HOST, authority.as_str())
        .body(Empty::<Bytes>::new())
        .map_err(|error| text(&error))?;
    let ask = async {
        let response = sender.send_request(request).await.map_err(|error| text(&error))?;
        // A refusal has a body of the same form, which says more than its status.
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        body.map(|body| body.to_bytes())
            .map_err(|error| format!("its answer was not read to its end: {error}"))
    };
    tokio::pin!(connection);
    tokio::pin!(ask);
    tokio::select! {
        answered = &mut ask => answered,
        // What has been read before the connection ended is there still.
        ended = &mut connection => match ended {
            Ok(()) => ask.await,
            Err(error) => Err(text(&error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A server that says one thing to whoever comes; gives its url, and what it was asked.
    async fn server(answer: String) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/prometheus/", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            // One that reads no further than it wants closes it under our hands.
            _ = stream.write_all(answer.as_bytes()).await;
            String::from_utf8(asked).unwrap()
        });
        (url, serving)
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_query_is_answered_with_a_number() {
        let body = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"4.5"]}}"#;
        let (url, serving) = server(http("200 OK", body)).await;
        assert_eq!(ask(&url, "sum(a)", LONG).await, Ok(4.5));
        let asked = serving.await.unwrap();
        assert!(asked.starts_with("GET /prometheus/api/v1/query?query=sum%28a%29 HTTP/1.1\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_with_its_place_and_what_to_do() {
        let refused = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
        let long = http("200 OK", &"x".repeat(ANSWER_BYTES_MAX + 1));
        let cases = [
            (http("400 Bad Request", refused), "the query was refused: parse error"),
            (http("200 OK", "<html>"), "is the url that of its server?"),
            (long, "was not read to its end"),
            (String::new(), "is Prometheus running there?"),
        ];
        for (answer, expected) in cases {
            let (url, _serving) = server(answer).await;
            let why = ask(&url, "up", LONG).await.unwrap_err();
            assert!(why.starts_with(&url) && why.contains(expected), "{why}");
        }
        // Nobody listens on a port that was free a moment ago; and one that listens and says nothing is not waited for.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", free.local_addr().unwrap());
        let why = ask(&url, "up", Duration::from_millis(50)).await.unwrap_err();
        assert!(why.contains("no answer within 50ms; is Prometheus running there?"), "{why}");
        drop(free);
        let why = ask(&url, "up", LONG).await.unwrap_err();
        assert!(why.contains("refused") && why.contains("otherwise correct scale.rule.url"), "{why}");
    }
}
