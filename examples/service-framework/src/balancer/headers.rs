//! What is changed in heads on their way, as users of nginx and haproxy expect it.
//!
//! Headers that belong to one connection end here: those that RFC 9110 names, and those that `Connection` names. A replica
//! learns for whom it works by `X-Forwarded-For` (appended to), `X-Forwarded-Proto` and `X-Forwarded-Host` (kept when a
//! proxy before this one has set them), and `Via`.

use std::net::IpAddr;

use hyper::{
    HeaderMap, Method, Uri, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, Entry, HOST, HeaderName, HeaderValue,
        PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
    },
    http::{request, uri::PathAndQuery, uri::Scheme},
};

use super::{config::HashOn, policy::hash};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Whether one of a header's comma-separated words is this one.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        // `TE` has weights behind a semicolon.
        value
            .split(',')
            .any(|part| part.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(word))
    })
}

/// Whether a request of HTTP/1 asks to speak another protocol from then on, such as WebSocket.
pub(super) fn asks_for_upgrade(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11 && headers.contains_key(UPGRADE) && has_word(headers, &CONNECTION, "upgrade")
}

/// Whether it is a call of gRPC, which needs HTTP/2 and trailers.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Whether doing it twice is as good as doing it once (RFC 9110, 9.2.2).
pub(super) fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE].contains(method)
}

/// Takes out what belongs to one connection alone.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            // Framing is not the sender's to take away: it would smuggle a second request into the body of the first.
            .filter(|name| ![CONTENT_LENGTH, HOST].contains(name))
            .collect();
        named.iter().for_each(|name| {
            headers.remove(name);
        });
        headers.remove(CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TRANSFER_ENCODING,
        TE,
        UPGRADE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
}

/// A request as the replica is to get it.
pub(super) fn prepare(
    parts: &mut request::Parts,
    to: Version,
    client: IpAddr,
    upgrade: bool,
    body_of_unknown_length: bool,
    replica: &str,
) {
    let trailers = has_word(&parts.headers, &TE, "trailers");
    let protocol = if upgrade { parts.headers.get(UPGRADE).cloned() } else { None };
    strip_hop_by_hop(&mut parts.headers);
    if trailers {
        parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = protocol {
        parts.headers.insert(UPGRADE, protocol);
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    // HTTP/2 may spread them over several headers (RFC 9113, 8.2.3); others know one.
    if to != Version::HTTP_2 && parts.headers.get_all(COOKIE).iter().nth(1).is_some() {
        join(&mut parts.headers, COOKIE, "; ", None);
    }
    if body_of_unknown_length && to != Version::HTTP_2 {
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    forwarded(parts, client);
    target(parts, to, replica);
    parts.version = to;
}

fn forwarded(parts: &mut request::Parts, client: IpAddr) {
    let via = if parts.version == Version::HTTP_2 { "2 balancer" } else { "1.1 balancer" };
    join(&mut parts.headers, FORWARDED_FOR, ", ", Some(&client.to_string()));
    join(&mut parts.headers, VIA, ", ", Some(via));
    if let Entry::Vacant(proto) = parts.headers.entry(FORWARDED_PROTO) {
        proto.insert(HeaderValue::from_static("http"));
    }
    if !parts.headers.contains_key(FORWARDED_HOST)
        && let Some(host) = host(parts)
    {
        parts.headers.insert(FORWARDED_HOST, host);
    }
}

/// Several headers of this name become one, with one more value at its end.
fn join(headers: &mut HeaderMap, name: HeaderName, separator: &str, more: Option<&str>) {
    let values = headers.get_all(&name).iter().map(HeaderValue::as_bytes).chain(more.map(str::as_bytes));
    let list = values.collect::<Vec<_>>().join(separator.as_bytes());
    if let Ok(list) = HeaderValue::from_bytes(&list) {
        headers.insert(name, list);
    }
}

/// For whom a request is: what HTTP/2 says in its target, and HTTP/1 in a header.
fn host(parts: &request::Parts) -> Option<HeaderValue> {
    let authority = || HeaderValue::from_str(parts.uri.authority()?.as_str()).ok();
    parts.headers.get(HOST).cloned().or_else(authority)
}

/// HTTP/1 has the path in the target and the host in a header, HTTP/2 has both in the target.
fn target(parts: &mut request::Parts, to: Version, replica: &str) {
    let host = host(parts);
    if to == Version::HTTP_2 {
        parts.headers.remove(HOST);
        let authority = host.as_ref().and_then(|host| host.to_str().ok()?.parse().ok());
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = authority.or_else(|| replica.parse().ok());
        uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        parts.uri = Uri::from_parts(uri).unwrap_or_default();
        return;
    }
    if !parts.headers.contains_key(HOST)
        && let Some(host) = host
    {
        parts.headers.insert(HOST, host);
    }
    if parts.uri.authority().is_some() {
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        parts.uri = Uri::from(path);
    }
}

/// What a sticky request is recognised by, as a place on the ring.
pub(super) fn key(hash_on: Option<&HashOn>, headers: &HeaderMap, client: IpAddr) -> u64 {
    let found = match hash_on {
        None | Some(HashOn::ClientAddress) => None,
        Some(HashOn::Header(name)) => headers.get(name.as_str()).map(HeaderValue::as_bytes),
        Some(HashOn::Cookie(name)) => {
            headers.get_all(COOKIE).iter().find_map(|value| cookie(value.as_bytes(), name.as_bytes()))
        }
    };
    found.map_or_else(|| client_key(client), hash)
}

/// The same, for who has only an address.
pub(super) fn client_key(client: IpAddr) -> u64 {
    match client {
        IpAddr::V4(address) => hash(&address.octets()),
        IpAddr::V6(address) => hash(&address.octets()),
    }
}

fn cookie<'a>(cookies: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    cookies.split(|byte| *byte == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        pair.strip_prefix(name)?.strip_prefix(b"=")
    })
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use proptest::prelude::*;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn parts(uri: &str, version: Version, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().uri(uri).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn all(parts: &request::Parts) -> Vec<String> {
        let text =
            |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        let mut all: Vec<_> = parts.headers.iter().map(text).collect();
        all.sort();
        all
    }

    #[test]
    fn what_belongs_to_a_connection_stays_there() {
        let headers = [
            ("host", "example.org"),
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers;q=1, deflate"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ];
        let mut parts = parts("/a?b", Version::HTTP_11, &headers);
        prepare(&mut parts, Version::HTTP_11, CLIENT, false, true, "10.0.0.1:80");
        assert_eq!(
            all(&parts),
            [
                "accept: */*",
                "host: example.org",
                "te: trailers",
                "transfer-encoding: chunked",
                "via: 1.1 balancer",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: example.org",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn proxies_before_this_one_are_kept() {
        let headers = [
            ("x-forwarded-for", "a"),
            ("x-forwarded-for", "b"),
            ("x-forwarded-proto", "https"),
            ("via", "1.1 x"),
        ];
        let mut parts = parts("/", Version::HTTP_11, &headers);
        prepare(&mut parts, Version::HTTP_11, CLIENT, false, false, "10.0.0.1:80");
        assert_eq!(
            all(&parts),
            ["via: 1.1 x, 1.1 balancer", "x-forwarded-for: a, b, 192.0.2.7", "x-forwarded-proto: https"]
        );
    }

    #[test]
    fn cookies_are_one_header_for_who_knows_only_one() {
        let cookies = |to, headers: &[(&str, &str)]| {
            let mut parts = parts("http://example.org/", Version::HTTP_2, headers);
            prepare(&mut parts, to, CLIENT, false, false, "10.0.0.1:80");
            parts
                .headers
                .get_all(COOKIE)
                .iter()
                .map(|value| value.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let spread = [("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")];
        assert_eq!(cookies(Version::HTTP_11, &spread), ["a=1; b=2; c=3; d=4"]);
        assert_eq!(cookies(Version::HTTP_2, &spread), ["a=1", "b=2; c=3", "d=4"]);
        assert_eq!(cookies(Version::HTTP_11, &spread[..1]), ["a=1"]);
        assert_eq!(cookies(Version::HTTP_11, &[]), [""; 0]);
    }

    #[test]
    fn targets_change_between_versions() {
        let mut to_1 = parts("http://example.org/a?b", Version::HTTP_2, &[]);
        prepare(&mut to_1, Version::HTTP_11, CLIENT, false, false, "10.0.0.1:80");
        assert_eq!(
            (to_1.uri.to_string().as_str(), &to_1.headers[HOST]),
            ("/a?b", &HeaderValue::from_static("example.org"))
        );
        let mut to_2 = parts("/a?b", Version::HTTP_11, &[("host", "example.org")]);
        prepare(&mut to_2, Version::HTTP_2, CLIENT, false, false, "10.0.0.1:80");
        assert_eq!((to_2.uri.to_string().as_str(), to_2.headers.get(HOST)), ("http://example.org/a?b", None));
        let mut nobody = parts("/", Version::HTTP_11, &[]);
        prepare(&mut nobody, Version::HTTP_2, CLIENT, false, false, "10.0.0.1:80");
        assert_eq!(nobody.uri.to_string(), "http://10.0.0.1:80/");
    }

    #[test]
    fn an_upgrade_is_passed_on() {
        let headers = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"), ("host", "x")];
        let mut parts = parts("/", Version::HTTP_11, &headers);
        assert!(asks_for_upgrade(parts.version, &parts.headers));
        prepare(&mut parts, Version::HTTP_11, CLIENT, true, false, "10.0.0.1:80");
        assert_eq!(
            (&parts.headers[CONNECTION], &parts.headers[UPGRADE]),
            (&HeaderValue::from_static("upgrade"), &HeaderValue::from_static("websocket"))
        );
    }

    #[test]
    fn stickiness_is_by_what_was_asked_for() {
        let by = HashOn::Cookie("id".to_owned());
        let key_of = |cookies: &str| {
            key(Some(&by), &parts("/", Version::HTTP_11, &[("cookie", cookies)]).headers, CLIENT)
        };
        assert_eq!(key_of("a=1; id=7"), key_of("id=7;b=2"));
        assert_ne!(key_of("id=7"), key_of("id=8"));
        assert_eq!(key_of("xid=7"), client_key(CLIENT));
    }

    proptest! {
        #[test]
        fn no_head_is_too_odd(values in proptest::collection::vec(("[a-zA-Z-]{1,12}|connection|te|upgrade|host|cookie", "[ -~]{0,30}"), 0..12), two: bool) {
            let mut request = Request::builder().uri("/x");
            for (name, value) in &values {
                request = request.header(name.as_str(), value.as_str());
            }
            if let Ok(request) = request.body(()) {
                let mut parts = request.into_parts().0;
                key(Some(&HashOn::Cookie("id".to_owned())), &parts.headers, CLIENT);
                let upgrade = asks_for_upgrade(parts.version, &parts.headers);
                let to = if two { Version::HTTP_2 } else { Version::HTTP_11 };
                prepare(&mut parts, to, CLIENT, upgrade, false, "10.0.0.1:80");
                prop_assert!(parts.headers.contains_key(FORWARDED_FOR));
                prop_assert!(two == parts.uri.authority().is_some());
            }
        }
    }
}
