//! The Date header field: RFC 3261 §20.17 takes the form of RFC 1123, always in GMT.

use clock::WallTime;

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];

const DAY_SECONDS: u64 = 86_400;
/// The calendar repeats after 400 years.
const CYCLE_DAYS: u64 = 146_097;
/// From 0000-03-01 to 1970-01-01. A year that begins in March has its odd day at the end.
const DAYS_BEFORE: u64 = 719_468;

/// The time as the header field says it.
pub(super) fn date(now: WallTime) -> String {
    let seconds = now.as_secs() % DAY_SECONDS;
    let days = now.as_secs() / DAY_SECONDS;
    let weekday = WEEKDAYS[(days % 7) as usize];
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Year, month and day of the day that comes so many days after 1970-01-01.
fn civil(days: u64) -> (u64, &'static str, u64) {
    let days = days + DAYS_BEFORE;
    let of_cycle = days % CYCLE_DAYS;
    // Every 4 years a day more, every 100 one less, and the day of the 400th year is the last of the cycle.
    let year_of_cycle = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    // From March on five months have 153 days, again and again.
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = days / CYCLE_DAYS * 400 + year_of_cycle + u64::from(month >= 10);
    (year, MONTHS[month as usize], day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3261 §20.17: the example, and the days at which calendars err.
    #[test]
    fn a_time_is_written_as_its_date() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_289_687_340, "Sat, 13 Nov 2010 22:29:00 GMT"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(date(WallTime::from_millis(seconds * 1_000)), expected);
        }
    }
}
