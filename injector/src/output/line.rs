//! The live view: one line for a send that is worth one.

use std::fmt::{self, Display, Formatter, Write as _};
use std::io::{self, Write};

use injector_ebpf::{Protocol, SendRecord, Verdict, flags};

use super::errno::NameOrNumber;
use super::text::Clean;
use super::units::{Bytes, Time};
use crate::explain::SendView;

/// Heading, width, and whether cells end at the right edge. A cell that is too
/// wide takes the room from the blanks of the next ones.
const COLUMNS: [(&str, usize, bool); 10] = [
    ("TIME", 7, true),
    ("COMM", 10, false),
    ("PID/TID", 11, false),
    ("PROTO", 5, false),
    ("PEER", 19, false),
    ("BYTES", 5, true),
    ("ASKED", 6, true),
    ("DELIV", 6, true),
    ("SEND", 6, true),
    ("WHAT", 0, false),
];

const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// Writes sends as lines: time since the start of the run, thread, socket,
/// bytes, delay asked and delivered, time of the send itself, and what happened.
#[derive(Debug)]
pub struct Lines {
    start_ns: u64,
    all: bool,
    headed: bool,
    table: Table,
}

impl Lines {
    /// `start_ns` is the monotonic time that lines count from. Without `all`
    /// only sends that were flagged, failed or signalled get a line.
    pub fn new(start_ns: u64, all: bool, colour: bool) -> Self {
        Self {
            start_ns,
            all,
            headed: false,
            table: Table::new(colour),
        }
    }

    /// Writes the line of a send that is worth one, and says whether it was.
    pub fn send(&mut self, out: &mut dyn Write, record: &SendRecord) -> io::Result<bool> {
        if !self.all && !SendView::new(record).noteworthy() {
            return Ok(false);
        }
        if !self.headed {
            out.write_all(self.table.header().as_bytes())?;
            self.headed = true;
        }
        out.write_all(self.table.row(record, self.start_ns).as_bytes())?;
        Ok(true)
    }
}

/// Lays out lines in a buffer that it uses again and again.
#[derive(Debug)]
pub(super) struct Table {
    colour: bool,
    /// Columns that are left out.
    hidden: &'static [&'static str],
    line: String,
    cell: String,
    column: usize,
    /// Columns of `line` that are used.
    at: usize,
    /// Where the next column ends if everything fits.
    edge: usize,
}

impl Table {
    pub(super) fn new(colour: bool) -> Self {
        Self {
            colour,
            hidden: &[],
            line: String::new(),
            cell: String::new(),
            column: 0,
            at: 0,
            edge: 0,
        }
    }

    /// Without colours and what is the same in most lines, for 80 columns.
    pub(super) fn narrow() -> Self {
        Self {
            hidden: &["PID/TID", "PROTO", "BYTES"],
            ..Self::new(false)
        }
    }

    /// The heading, with a newline.
    pub(super) fn header(&mut self) -> &str {
        self.clear();
        for (heading, ..) in COLUMNS {
            self.put(format_args!("{heading}"), "");
        }
        self.line.push('\n');
        &self.line
    }

    /// The line of one send, with a newline.
    pub(super) fn row(&mut self, record: &SendRecord, start_ns: u64) -> &str {
        let send = SendView::new(record);
        self.clear();
        match send.start() {
            Some(start) => {
                let ms = start.saturating_sub(start_ns) / 1_000_000;
                self.put(format_args!("{}.{:03}", ms / 1_000, ms % 1_000), "");
            }
            None => self.put(format_args!("-"), ""),
        }
        self.put(format_args!("{}", Clean(send.comm())), "");
        if record.tid == record.tgid {
            self.put(format_args!("{}", record.tgid), "");
        } else {
            self.put(format_args!("{}/{}", record.tgid, record.tid), "");
        }
        self.put(format_args!("{}", protocol_name(send.protocol())), "");
        self.put(format_args!("{}", Clean(send.peer())), "");
        self.measure(send.asked_bytes().map(Bytes));
        self.measure(send.asked().map(Time));
        self.measure(send.delivered().map(Time));
        self.measure(send.natural().map(Time));
        let colour = match () {
            () if send.failed() => RED,
            () if send.has(flags::FLAGGED) => YELLOW,
            () => "",
        };
        self.put(format_args!("{}", What(send)), colour);
        self.line.truncate(self.line.trim_end().len());
        self.line.push('\n');
        &self.line
    }

    fn clear(&mut self) {
        self.line.clear();
        (self.column, self.at, self.edge) = (0, 0, 0);
    }

    fn measure(&mut self, value: Option<impl Display>) {
        match value {
            Some(value) => self.put(format_args!("{value}"), ""),
            None => self.put(format_args!("-"), ""),
        }
    }

    fn put(&mut self, value: fmt::Arguments<'_>, colour: &str) {
        let (heading, width, right) = COLUMNS[self.column];
        if self.hidden.contains(&heading) {
            self.column += 1;
            return;
        }
        let last = self.column + 1 == COLUMNS.len();
        let gap = usize::from(self.column > 0);
        self.cell.clear();
        // Writing to a string does not fail.
        let _ = self.cell.write_fmt(value);
        let used = self.cell.chars().count();
        self.edge += gap + width;
        self.at += gap + used;
        let pad = self.edge.saturating_sub(self.at);
        let (before, after) = match (right, last) {
            (true, _) => (pad, 0),
            (false, true) => (0, 0),
            (false, false) => (0, pad),
        };
        let blanks = |n| std::iter::repeat_n(' ', n);
        self.line.extend(blanks(gap + before));
        let coloured = self.colour && !colour.is_empty();
        if coloured {
            self.line.push_str(colour);
        }
        self.line.push_str(&self.cell);
        if coloured {
            self.line.push_str(RESET);
        }
        self.line.extend(blanks(after));
        self.at += before + after;
        self.column += 1;
    }
}

/// Names of protocols that fit a column; those of unix sockets as in `ss`.
fn protocol_name(protocol: Option<Protocol>) -> &'static str {
    match protocol {
        Some(Protocol::UnixStream) => "u_str",
        Some(Protocol::UnixDgram) => "u_dgr",
        Some(internet) => internet.name(),
        None => "?",
    }
}

/// What happened to a send, in as few words as there are things to say.
struct What<'a>(SendView<'a>);

impl Display for What<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let send = self.0;
        let mut first = true;
        let mut word = |text: fmt::Arguments<'_>| {
            let space = if first { "" } else { " " };
            first = false;
            write!(f, "{space}{text}")
        };
        let would = send.shadowed() && send.has(flags::FAILED | flags::WOULD_SIGNAL);
        match (send.verdict(), send.guard()) {
            (Some(Verdict::Delivered | Verdict::Passed), _) => {}
            (Some(Verdict::Shadowed), Some(guard)) => {
                word(format_args!("shadowed guard:{}", guard.name()))?;
            }
            (Some(Verdict::Shadowed), _) if would => {}
            (Some(Verdict::Suppressed), Some(guard)) => {
                word(format_args!("guard:{}", guard.name()))?;
            }
            (Some(verdict), _) => word(format_args!("{}", verdict.name()))?,
            (None, _) => word(format_args!("?"))?,
        }
        if send.failed() {
            word(format_args!("failed"))?;
        }
        if let Some(errno) = send.errno() {
            word(format_args!("{}", NameOrNumber(errno)))?;
        }
        // A signal says that the threshold was passed.
        let flagged = send.has(flags::FLAGGED) && !send.has(flags::SIGNALLED | flags::WOULD_SIGNAL);
        for (is, name) in [
            (send.shadowed() && send.has(flags::FAILED), "would-fail"),
            (send.signalled(), "signalled"),
            (send.would_signal(), "would-signal"),
            (flagged, "flagged"),
            (send.has(flags::CAPPED), "capped"),
            (send.has(flags::SHORTENED), "shortened"),
            (send.has(flags::BATCH), "batch"),
            (send.has(flags::NO_START), "no-start"),
        ] {
            if is {
                word(format_args!("{name}"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use injector_ebpf::Guard;
    use proptest::prelude::*;

    use super::super::fixture as run;
    use super::*;
    use crate::explain::fixture;

    fn lines(lines: &mut Lines, records: &[SendRecord]) -> String {
        let mut out = Vec::new();
        for record in records {
            lines.send(&mut out, record).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    fn flagged() -> SendRecord {
        SendRecord {
            start_ns: 13_345_678_000,
            flags: flags::FLAGGED | flags::CAPPED,
            ..fixture::delayed(1_200_000_000, 10_002_000, 62_500)
        }
    }

    #[test]
    fn a_flagged_send_has_a_line_and_a_passed_one_has_none() {
        let mut quiet = Lines::new(1_000_000_000, false, false);
        assert_eq!(
            lines(&mut quiet, &[fixture::send(), flagged(), flagged()]),
            "   TIME COMM       PID/TID     PROTO PEER                BYTES  ASKED  DELIV   SEND WHAT
 12.345 order-api  4321        tcp   127.0.0.1:80         512B   1.2s   10ms 62.5us flagged capped
 12.345 order-api  4321        tcp   127.0.0.1:80         512B   1.2s   10ms 62.5us flagged capped
"
        );
    }

    #[test]
    fn all_sends_have_a_line_when_asked_for() {
        let mut all = Lines::new(0, true, false);
        assert_eq!(lines(&mut all, &[fixture::send()]).lines().count(), 2);
    }

    #[test]
    fn a_wide_cell_takes_room_from_the_next() {
        let wide = SendRecord {
            tid: 654_321,
            tgid: 123_456,
            ..flagged()
        };
        let mut table = Table::new(false);
        let row = table.row(&wide, 0).to_owned();
        let usual = table.row(&flagged(), 0);
        let start = |row: &str, word| row.find(word).unwrap();
        assert_eq!(start(&row, "tcp"), start(usual, "tcp") + 2);
        assert_eq!(start(&row, "127"), start(usual, "127"));
    }

    #[test]
    fn colours_only_when_asked_for() {
        let failed = SendRecord {
            flags: flags::FAILED,
            result: -104,
            ..fixture::delayed(0, 0, 0)
        };
        let mut plain = Lines::new(0, false, false);
        assert!(!lines(&mut plain, &[flagged(), failed]).contains('\x1b'));
        let mut colour = Lines::new(0, false, true);
        let text = lines(&mut colour, &[flagged(), failed]);
        assert!(text.contains("\x1b[33mflagged capped\x1b[0m\n"), "{text}");
        assert!(
            text.contains("\x1b[31mfailed ECONNRESET\x1b[0m\n"),
            "{text}"
        );
    }

    #[test]
    fn a_guard_and_a_missing_start_are_named() {
        let suppressed = SendRecord {
            verdict: Verdict::Suppressed as u8,
            guard: Guard::Lease as u8,
            ..fixture::delayed(10, 0, 5)
        };
        let mut table = Table::new(false);
        assert!(table.row(&suppressed, 0).ends_with(" guard:lease\n"));
        let late = SendRecord {
            flags: flags::FLAGGED | flags::NO_START,
            ..fixture::send()
        };
        let row = table.row(&late, 0);
        assert!(row.starts_with("      - order-api"), "{row}");
        assert!(
            row.ends_with("512B      -      -      - flagged no-start\n"),
            "{row}"
        );
    }

    #[test]
    fn shadow_says_would() {
        let shadowed = SendRecord {
            verdict: Verdict::Shadowed as u8,
            flags: flags::FLAGGED | flags::FAILED,
            ..fixture::delayed(10, 0, 5)
        };
        let mut table = Table::new(false);
        let row = table.row(&shadowed, 0);
        assert!(row.ends_with(" would-fail flagged\n"), "{row}");
        let let_through = SendRecord {
            guard: Guard::ActRate as u8,
            flags: 0,
            ..shadowed
        };
        let row = table.row(&let_through, 0);
        assert!(row.ends_with(" shadowed guard:act_rate\n"), "{row}");
    }

    #[test]
    fn a_closed_pipe_is_told_apart() {
        let error = Lines::new(0, true, false)
            .send(&mut run::Closed, &fixture::send())
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    proptest! {
        #[test]
        fn any_record_is_one_clean_line(record in fixture::any_record(), start in any::<u64>()) {
            let mut table = Table::new(false);
            let row = table.row(&record, start);
            prop_assert_eq!(row.matches('\n').count(), 1);
            prop_assert_eq!(row.trim_end().len() + 1, row.len());
            prop_assert!(!row.trim_end_matches('\n').chars().any(char::is_control));
        }

        /// A run of a quarter of an hour over IPv4.
        #[test]
        fn usual_sends_stay_within_100_columns(
            start_ns in 0..999_000_000_000_u64,
            times in any::<[u32; 3]>(),
            comm in "[a-z-]{1,10}",
            (pid, tid) in (1..99_999_u32, 1..99_999_u32),
            (address, port) in (any::<[u8; 3]>(), any::<u16>()),
            bytes in any::<u64>(),
            capped in prop::sample::select(vec![0, flags::CAPPED]),
            signalled in prop::sample::select(vec![0, flags::SIGNALLED]),
        ) {
            let [asked, delivered, natural] = times.map(u64::from);
            let mut record = SendRecord {
                start_ns,
                bytes_asked: bytes,
                tgid: pid,
                tid,
                peer: fixture::ipv4([10, address[0], address[1], address[2] % 100], port),
                flags: flags::FLAGGED | capped | signalled,
                comm: [0; 16],
                ..fixture::delayed(asked, delivered, natural)
            };
            record.comm[..comm.len()].copy_from_slice(comm.as_bytes());
            let mut table = Table::new(false);
            let row = table.row(&record, 0).trim_end();
            prop_assert!(row.chars().count() <= 100, "{}", row);
        }
    }
}
