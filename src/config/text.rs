//! The small languages inside configuration values: durations, rates, `${ENV}`, names. Nothing here knows TOML.

/// `500ms`, `30s`, `5m`, `12h`, `7d` -> milliseconds.
///
/// # Errors
/// A sentence that says what a duration looks like.
pub fn duration_ms(text: &str) -> Result<i64, String> {
    match milliseconds(text) {
        Some(ms) if ms > 0 => Ok(ms),
        _ => Err("a duration is a whole number above zero and a unit: 500ms, 30s, 5m, 12h or 7d".into()),
    }
}

/// The same, where `0s` means never.
///
/// # Errors
/// A sentence that says what is possible.
pub fn duration_or_zero_ms(text: &str) -> Result<i64, String> {
    milliseconds(text).ok_or_else(|| "a duration is a whole number and a unit: 0s, 30s, 5m, 12h or 7d".into())
}

/// A duration as it would be written: `1d`, `90m`.
#[must_use]
pub fn duration(ms: i64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let whole = units.into_iter().find(|(_, unit_ms)| ms % unit_ms == 0);
    whole.map_or_else(|| format!("{ms}ms"), |(unit, unit_ms)| format!("{}{unit}", ms / unit_ms))
}

fn milliseconds(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    text[..digits].parse::<i64>().ok().and_then(|n| n.checked_mul(unit_ms))
}

/// `20/day`, `5/hour` -> (how many, per so many milliseconds).
///
/// # Errors
/// A sentence that says what a rate looks like.
pub fn rate(text: &str) -> Result<(f64, f64), String> {
    let (count, unit) = text.split_once('/').unwrap_or((text, ""));
    let per_ms = match unit.trim() {
        "second" | "s" => 1_000.0,
        "minute" => 60_000.0,
        "hour" => 3_600_000.0,
        "day" => 86_400_000.0,
        "week" => 604_800_000.0,
        _ => f64::NAN,
    };
    match count.trim().parse::<f64>() {
        Ok(count) if count > 0.0 && count.is_finite() && per_ms > 0.0 => Ok((count, per_ms)),
        _ => Err("a rate is a number above zero per second, minute, hour, day or week: 20/day, 5/hour".into()),
    }
}

/// Replaces every `${NAME}` by the variable's value; `$${` stands for `${` itself.
///
/// # Errors
/// The reference as it is written, and what is wrong with it.
pub fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, (String, String)> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}').map(|end| at + end) else {
            return Err((
                rest[at..].into(),
                "this reference is not closed: write ${NAME}, or $${ for the text itself".into(),
            ));
        };
        let (reference, name) = (&rest[at..=end], &rest[at + 2..end]);
        let first_is_letter = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !(first_is_letter && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')) {
            return Err((reference.into(), "a variable's name is of letters, digits and _".into()));
        }
        let Some(value) = env(name) else {
            return Err((reference.into(), format!("the environment variable `{name}` is not set")));
        };
        out.push_str(&value);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("12h", 43_200_000), ("7d", 604_800_000)] {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "5", "s", "-5s", "0s", "5 s", "1.5h", "5min", "99999999999999d"] {
            assert!(duration_ms(text).is_err(), "{text}");
            assert_eq!(duration_or_zero_ms(text), if text == "0s" { Ok(0) } else { duration_or_zero_ms("") }, "{text}");
        }
        assert_eq!(duration_or_zero_ms("5m"), Ok(300_000));
        for text in ["500ms", "30s", "90m", "12h", "7d"] {
            assert_eq!(duration(duration_ms(text).unwrap()), text);
        }
    }

    #[test]
    fn rates() {
        assert_eq!(rate("20/day"), Ok((20.0, 86_400_000.0)));
        assert_eq!(rate("0.5 / hour"), Ok((0.5, 3_600_000.0)));
        for text in ["20", "20/", "/day", "0/day", "-1/day", "NaN/day", "inf/day", "20/fortnight"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn references() {
        let env = |name: &str| (name == "HOST").then(|| "kafka-1".to_owned());
        assert_eq!(expand("a ${HOST}:9092,${HOST}", &env).as_deref(), Ok("a kafka-1:9092,kafka-1"));
        assert_eq!(expand("$${HOST} costs $5 {x}", &env).as_deref(), Ok("${HOST} costs $5 {x}"));
        assert_eq!(expand("x${PORT}", &env).unwrap_err().0, "${PORT}");
        assert_eq!(expand("x${HOST", &env).unwrap_err().0, "${HOST");
        assert_eq!(expand("${}", &env).unwrap_err().0, "${}");
    }
}
