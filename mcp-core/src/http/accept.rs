use axum::http::{HeaderMap, HeaderValue, header};

/// Widens the `Accept` header of a client that takes JSON, so that the request passes rmcp.
///
/// rmcp insists on the name of event streams beside that of JSON, as the specification demands of clients. Command-line
/// clients do not know this.
pub(super) fn widen(headers: &mut HeaderMap) {
    let values = headers.get_all(header::ACCEPT);
    let mut ranges = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let takes_json = !headers.contains_key(header::ACCEPT) || ranges.any(takes_json);
    if takes_json {
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    }
}

fn takes_json(range: &str) -> bool {
    let (essence, parameters) = range.split_once(';').unwrap_or((range, ""));
    let weight = |parameter: &str| parameter.trim().strip_prefix("q=")?.parse::<f32>().ok();
    let refused = parameters.split(';').filter_map(weight).any(|weight| weight <= 0.0);
    let essence = essence.trim();
    !refused && ["*/*", "application/*", "application/json"].iter().any(|json| essence.eq_ignore_ascii_case(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_json_is_served() {
        for (accept, served) in [
            (Some("*/*"), true),
            (Some("application/json"), true),
            (Some("text/html, Application/JSON;q=0.5"), true),
            (None, true),
            (Some("text/event-stream"), false),
            (Some("application/json;q=0"), false),
            (Some("application/json; q=0.000"), false),
            (Some("application/json;q=0.001"), true),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept))));
            widen(&mut headers);
            let widened = headers[header::ACCEPT] == "application/json, text/event-stream";
            assert_eq!(widened, served, "{accept:?}");
        }
    }
}
