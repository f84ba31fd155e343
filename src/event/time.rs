//! RFC 3339 text to epoch milliseconds and back, and calendar arithmetic on them; proleptic Gregorian, UTC, no time zone data.

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999Z: what a timestamp may be.
pub const TIME_MS_MIN: i64 = -62_135_596_800_000;
pub const TIME_MS_MAX: i64 = 253_402_300_799_999;

const DAY_MS: i64 = 86_400_000;

/// Milliseconds since the epoch of an RFC 3339 time with an offset (`T` or a blank between date and time). Digits beyond the
/// millisecond are cut off; second 60 (a leap second) counts as 59. `None` for anything else.
///
/// Written by hand because nearly every event passes here; a test holds it against jiff.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let (local_ms, rest) = parse_local(text.as_bytes())?;
    let offset_minutes = match rest {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), hours @ .., b':', m1, m2] => {
            let hours = number(hours, 2)?;
            let minutes = number(&[*m1, *m2], 2)?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let total = hours * 60 + minutes;
            if *sign == b'-' { -total } else { total }
        }
        _ => return None,
    };
    let ms = local_ms - offset_minutes * 60_000;
    (TIME_MS_MIN..=TIME_MS_MAX).contains(&ms).then_some(ms)
}

/// RFC 3339 text in UTC with milliseconds; `None` outside of [`TIME_MS_MIN`] to [`TIME_MS_MAX`].
///
/// Written by hand for the same reason, and held against the same.
#[must_use]
pub fn rfc3339(time_ms: i64) -> Option<[u8; 24]> {
    if !(TIME_MS_MIN..=TIME_MS_MAX).contains(&time_ms) {
        return None;
    }
    let (year, month, day) = civil_from_days(time_ms.div_euclid(DAY_MS));
    let ms = time_ms.rem_euclid(DAY_MS);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let parts = [
        (year, 0..4),
        (month, 5..7),
        (day, 8..10),
        (ms / 3_600_000, 11..13),
        (ms / 60_000 % 60, 14..16),
        (ms / 1_000 % 60, 17..19),
        (ms % 1_000, 20..23),
    ];
    for (mut number, place) in parts {
        for digit in text[place].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    Some(text)
}

/// Milliseconds since the epoch of a SQL timestamp literal (`2026-01-31 12:00:00.5`), read as UTC.
#[must_use]
pub fn parse_sql_timestamp(text: &str) -> Option<i64> {
    let (ms, rest) = parse_local(text.as_bytes())?;
    rest.is_empty().then_some(ms)
}

/// Date and time without the offset, and what follows them.
fn parse_local(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (head, mut rest) = bytes.split_at_checked(19)?;
    let [_, _, _, _, b'-', _, _, b'-', _, _, b'T' | b't' | b' ', _, _, b':', _, _, b':', _, _] = head else {
        return None;
    };
    let part = |from: usize, digits: usize| number(&head[from..from + digits], digits);
    let (year, month, day) = (part(0, 4)?, part(5, 2)?, part(8, 2)?);
    let (hour, minute, second) = (part(11, 2)?, part(14, 2)?, part(17, 2)?);
    if year < 1 || !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut ms = 0;
    if let [b'.', digits @ ..] = rest {
        let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        for place in 0..3 {
            ms = ms * 10 + digits[..count].get(place).map_or(0, |digit| i64::from(digit - b'0'));
        }
        rest = &digits[count..];
    }
    let seconds = (hour * 60 + minute) * 60 + second.min(59);
    Some((days_from_civil(year, month, day) * DAY_MS + seconds * 1_000 + ms, rest))
}

fn number(bytes: &[u8], digits: usize) -> Option<i64> {
    if bytes.len() != digits {
        return None;
    }
    bytes.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 (Hinnant, chrono-Compatible Low-Level Date Algorithms, `days_from_civil`).
#[must_use]
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01 (Hinnant, `civil_from_days`).
#[must_use]
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_shapes_are_read_and_others_refused() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-01-31T12:34:56.789Z", Some(1_769_862_896_789)),
            ("2026-01-31t12:34:56.7891234z", Some(1_769_862_896_789)),
            ("2026-01-31 13:34:56.7+01:00", Some(1_769_862_896_700)),
            ("2026-01-31T07:04:56-05:30", Some(1_769_862_896_000)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_799_000)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000)),
            ("2026-02-29T00:00:00Z", None),
            ("2026-01-31T12:34:56", None),
            ("2026-01-31T12:34:56.Z", None),
            ("2026-13-31T12:34:56Z", None),
            ("2026-01-31T24:34:56Z", None),
            ("2026-01-31T12:34:56+0100", None),
            ("2026-01-31T12:34:56+é:00", None),
            ("0000-01-31T12:34:56Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_rfc3339(text), ms, "{text}");
        }
        assert_eq!(parse_sql_timestamp("1970-01-01 00:00:01.5"), Some(1_500));
        assert_eq!(parse_sql_timestamp("1970-01-01 00:00:01Z"), None);
    }

    #[test]
    fn the_first_and_the_last_time_are_written_and_none_beyond() {
        assert_eq!(rfc3339(TIME_MS_MIN), Some(*b"0001-01-01T00:00:00.000Z"));
        assert_eq!(rfc3339(TIME_MS_MAX), Some(*b"9999-12-31T23:59:59.999Z"));
        assert_eq!((rfc3339(TIME_MS_MIN - 1), rfc3339(TIME_MS_MAX + 1)), (None, None));
    }

    #[test]
    fn agrees_with_jiff() {
        let draw = crate::draw::Draw::new(1);
        for index in 0..20_000 {
            let share = draw.unit(crate::draw::Purpose::Traffic, index);
            let ms = TIME_MS_MIN + (share * (TIME_MS_MAX - TIME_MS_MIN) as f64) as i64;
            let text = jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
            assert_eq!(parse_rfc3339(&text), Some(ms), "{text}");
            let written = rfc3339(ms).unwrap();
            let full = format!("{:.3}", jiff::Timestamp::from_millisecond(ms).unwrap());
            assert_eq!(str::from_utf8(&written).unwrap(), full);
            let days = ms.div_euclid(DAY_MS);
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
            assert!(text.starts_with(&format!("{year:04}-{month:02}-{day:02}")), "{text}");
        }
    }
}
