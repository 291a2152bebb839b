//! One number from a Prometheus server: the request that asks for it, and what its answer says.
//!
//! <https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>

use serde::Deserialize;

/// Bytes of an answer that are read: one number needs a few hundred.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What is asked for below the server's address.
pub fn path(query: &str) -> String {
    let mut path = "/api/v1/query?query=".to_owned();
    for byte in query.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                path.push(char::from(byte))
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Answer {
    Success { data: Data },
    Error { error: String },
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "snake_case")]
enum Data {
    Scalar(Point),
    Vector(Vec<Series>),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Series {
    value: Point,
}

/// When, and the number as a text.
#[derive(Deserialize)]
struct Point(#[allow(dead_code, reason = "the place of the time")] f64, String);

/// The number in an answer; or why there is none, with what to do.
pub fn number(answer: &[u8]) -> Result<f64, String> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|error| {
        format!("the answer is not one of Prometheus: {error}; is the url that of its server?")
    })?;
    let point = match answer {
        Answer::Error { error } => return Err(format!("the query was refused: {error}")),
        Answer::Success { data: Data::Scalar(point) } => point,
        Answer::Success { data: Data::Vector(mut series) } => match (series.pop(), series.len()) {
            (Some(series), 0) => series.value,
            (None, _) => return Err("the query has no answer; is the metric's name right?".to_owned()),
            (Some(_), more) => {
                return Err(format!(
                    "the query has {} answers; put `sum(…)` or `max(…)` around it",
                    more + 1
                ));
            }
        },
        Answer::Success { data: Data::Matrix(_) | Data::String(_) } => {
            return Err("the query's answer is not one number; put `sum(…)` or `max(…)` around it".to_owned());
        }
    };
    let number: f64 = point.1.parse().map_err(|_| format!("`{}` is no number", point.1))?;
    match number.is_finite() {
        true => Ok(number),
        false => Err(format!("the answer is {number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_asked_as_it_was_written() {
        assert_eq!(path("sum(rate(a_b[5m]))"), "/api/v1/query?query=sum%28rate%28a_b%5B5m%5D%29%29");
        assert_eq!(path("a{b=\"ä&c\"}"), "/api/v1/query?query=a%7Bb%3D%22%C3%A4%26c%22%7D");
    }

    #[test]
    fn one_number_is_taken_and_everything_else_is_explained() {
        let answer = |data: &str| number(format!(r#"{{"status":"success","data":{data}}}"#).as_bytes());
        let series = r#"{"metric":{"job":"a"},"value":[1700000000.123,"12.5"]}"#;
        assert_eq!(answer(&format!(r#"{{"resultType":"vector","result":[{series}]}}"#)), Ok(12.5));
        assert_eq!(answer(r#"{"resultType":"scalar","result":[1700000000,"3"]}"#), Ok(3.0));
        let said = |data: &str| answer(data).unwrap_err();
        let two = format!(r#"{{"resultType":"vector","result":[{series},{series}]}}"#);
        assert!(said(&two).contains("2 answers; put `sum(…)`"));
        assert!(said(r#"{"resultType":"vector","result":[]}"#).contains("is the metric's name right?"));
        assert!(said(r#"{"resultType":"matrix","result":[]}"#).contains("not one number"));
        assert!(said(r#"{"resultType":"scalar","result":[1,"NaN"]}"#).contains("NaN"));
        let refused = br#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected )"}"#;
        assert_eq!(number(refused).unwrap_err(), "the query was refused: parse error: unexpected )");
        assert!(number(b"<html>").unwrap_err().contains("is the url that of its server?"));
    }
}
