//! Points in time as text: RFC 3339, UTC, to the millisecond.

use super::time::Timestamp;

const DAY_MS: u64 = 86_400_000;
/// The last millisecond of the year 9999: there is no text for later ones.
const LAST_MS: u64 = 253_402_300_799_999;

/// `2027-01-15T08:00:00.000Z`
pub fn written(at: Timestamp) -> String {
    let ms = at.floor_millis().min(LAST_MS);
    let (year, month, day) = civil(ms / DAY_MS);
    let (second, milli) = (ms % DAY_MS / 1000, ms % 1000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// A time since 1970 with `Z` or an offset, and any fraction of a second, of which microseconds are kept.
pub fn read(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let (clock, rest) = rest.strip_prefix(['T', 't', ' '])?.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    if !(1970..=9999).contains(&year) || day > month_length(year, month)? || day == 0 {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction_us, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let (digits, zone) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
            if digits.is_empty() {
                return None;
            }
            (format!("{digits:0<6}").get(..6)?.parse::<u64>().ok()?, zone)
        }
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = i64::try_from(seconds).ok()? - offset_seconds(zone)?;
    Some(Timestamp::from_micros(u64::try_from(seconds).ok()? * 1_000_000 + fraction_us))
}

/// Three numbers of digits alone, the first of any length.
fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let mut parts = text.split(between).map(|part| {
        let is_digits = part.len() >= 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        is_digits.then(|| part.parse().ok()).flatten()
    });
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

fn offset_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let [hour, minute, _] = numbers(&format!("{rest}:00"), ':')?;
    let minutes = i64::try_from(hour * 60 + minute).ok()?;
    (hour <= 23 && minute <= 59).then_some(sign * minutes * 60)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn month_length(year: u64, month: u64) -> Option<u64> {
    match month {
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if is_leap(year) { 29 } else { 28 }),
        1..=12 => Some(31),
        _ => None,
    }
}

/// Days since the epoch of a date of the Gregorian calendar. Years begin in March here, so that the day
/// that is now and then there is their last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = if month <= 2 { month + 9 } else { month - 3 };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days`].
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_written_and_read() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_800_000_000_123, "2027-01-15T08:00:00.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(written(Timestamp::from_millis(ms)), text);
            assert_eq!(read(text), Some(Timestamp::from_millis(ms)), "{text}");
        }
        assert_eq!(written(Timestamp::from_micros(u64::MAX)), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn offsets_and_fractions_are_understood() {
        let at = |text: &str| read(text).map(Timestamp::as_micros);
        assert_eq!(at("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(at("1969-12-31T23:00:00-01:00"), None, "years before the epoch are not read");
        assert_eq!(at("1970-01-01T00:00:01.5Z"), Some(1_500_000));
        assert_eq!(at("1970-01-01t00:00:01.123456789z"), Some(1_123_456));
        assert_eq!(at("1970-01-01 00:30:00-00:30"), Some(3_600_000_000));
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in [
            "",
            "now",
            "2027-01-15",
            "2027-01-15T08:00:00",
            "2027-01-15T08:00:00.Z",
            "2027-13-15T08:00:00Z",
            "2027-02-29T08:00:00Z",
            "2027-00-10T08:00:00Z",
            "2027-01-00T08:00:00Z",
            "2027-01-15T24:00:00Z",
            "2027-01-15T08:60:00Z",
            "2027-01-15T08:00:60Z",
            "2027-01-15T08:00:00+24:00",
            "2027-01-15T08:00:00+1:00",
            "2027-01-15T08:00:00Zz",
            "+027-01-15T08:00:00Z",
            "1970-01-01T00:00:00+00:01",
            "éééé-01-15T08:00:00Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_time_comes_back(ms in 0..=LAST_MS) {
            let at = Timestamp::from_millis(ms);
            prop_assert_eq!(read(&written(at)), Some(at));
        }

        #[test]
        fn no_text_breaks_it(text in "\\PC{0,40}") {
            let _ = read(&text);
        }
    }
}
