use super::*;
use probe_ebpf::python::tables::for_version;
use proptest::prelude::*;

/// What `fixtures/lines.py` printed in each interpreter.
const RECORDED: [(u8, &str); 8] = [
    (8, include_str!("fixtures/lines_3.8.txt")),
    (9, include_str!("fixtures/lines_3.9.txt")),
    (10, include_str!("fixtures/lines_3.10.txt")),
    (11, include_str!("fixtures/lines_3.11.txt")),
    (12, include_str!("fixtures/lines_3.12.txt")),
    (13, include_str!("fixtures/lines_3.13.txt")),
    (14, include_str!("fixtures/lines_3.14.txt")),
    (15, include_str!("fixtures/lines_3.15.txt")),
];

/// A code object, as recorded.
struct Code {
    table: Vec<u8>,
    format: u32,
    first_line: u32,
    bytes: u32,
    /// Where each range begins, and its line.
    ranges: Vec<(u32, Option<u32>)>,
}

impl Code {
    fn parse(format: u32, text: &str) -> Self {
        let words: Vec<_> = text.split(' ').collect();
        let [first_line, table, bytes, ranges] = words[..] else {
            panic!("not a code object: {text}");
        };
        let digits = table.strip_prefix('-').unwrap_or(table).as_bytes();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        let range = |range: &str| {
            let (start, line) = range.split_once(':').unwrap();
            (start.parse().unwrap(), line.parse().ok())
        };
        Self {
            table: digits.as_chunks().0.iter().map(byte).collect(),
            format,
            first_line: first_line.parse().unwrap(),
            bytes: bytes.parse().unwrap(),
            ranges: ranges.split(',').map(range).collect(),
        }
    }

    fn lines(&self) -> Lines<'_> {
        Lines {
            table: &self.table,
            is_cut: false,
            format: self.format,
            first_line: self.first_line,
        }
    }

    /// The interpreter's own answer.
    fn expected(&self, offset: u32) -> Option<u32> {
        let range = self.ranges.iter().rev().find(|(from, _)| *from <= offset);
        range.unwrap().1
    }
}

/// Every code object recorded, with the minor version.
fn recorded() -> Vec<(u8, Code)> {
    let of = |(minor, text): (u8, &'static str)| {
        let format = for_version(3, minor.min(12)).unwrap().line_table;
        text.lines()
            .map(move |line| (minor, Code::parse(format, line)))
    };
    RECORDED.into_iter().flat_map(of).collect()
}

#[test]
fn every_instruction_is_of_the_line_that_the_interpreter_says() {
    for (minor, code) in recorded() {
        assert!(!code.ranges.is_empty());
        for offset in (0..code.bytes).step_by(2) {
            let told = code.lines().line(offset);
            assert_eq!(told, code.expected(offset), "3.{minor}, {offset}");
        }
    }
}

#[test]
fn the_fixtures_have_what_is_hard() {
    for minor in 8..=15 {
        let codes: Vec<_> = recorded().into_iter().filter(|it| it.0 == minor).collect();
        let has = |what: fn(&Code) -> bool| codes.iter().any(|(_, code)| what(code));
        assert!(codes.len() > 15);
        assert!(has(|code| code.first_line > 0xffff));
        let steps = |code: &Code, is: fn(i64) -> bool| {
            let lines: Vec<_> = code.ranges.iter().filter_map(|it| it.1).collect();
            lines
                .windows(2)
                .any(|two| is(i64::from(two[1]) - i64::from(two[0])))
        };
        assert!(codes.iter().any(|it| steps(&it.1, |step| step > 4000)));
        assert!(codes.iter().any(|it| steps(&it.1, |step| step < -128)));
        if minor > 10 {
            assert!(has(|code| code.ranges.iter().any(|it| it.1.is_none())));
        }
    }
}

#[test]
fn behind_its_end_only_the_oldest_format_tells_a_line() {
    for (minor, code) in recorded() {
        let last = code.lines().line(code.bytes);
        assert_eq!(last.is_some(), minor < 10, "3.{minor}");
    }
}

#[test]
fn of_a_table_that_is_cut_what_is_told_is_right() {
    let mut told = 0;
    for (minor, code) in recorded() {
        let length = code.table.len();
        for bytes in (0..length).step_by(1 + length / 50) {
            let cut = Lines {
                table: &code.table[..bytes],
                is_cut: true,
                ..code.lines()
            };
            for offset in (0..code.bytes).step_by(2 + code.bytes as usize / 100 * 2) {
                if let Some(line) = cut.line(offset) {
                    told += 1;
                    assert_eq!(Some(line), code.expected(offset), "3.{minor}, {offset}");
                }
            }
        }
    }
    assert!(told > 10_000, "{told}");
}

#[test]
fn garbage_tells_nothing() {
    let of = |format: LineTable, table: &[u8]| {
        let lines = Lines {
            table,
            is_cut: false,
            format: format as u32,
            first_line: 10,
        };
        lines.line(0)
    };
    // Not the beginning of an entry; a number that does not end.
    let wrong: [&[u8]; 5] = [
        b"",
        b"\x01\x80",
        b"\xe8\x41",
        b"\xe8\x80",
        b"\xe8\x40\x40\x40\x40\x40\x40\x00",
    ];
    for table in wrong {
        assert_eq!(of(LineTable::Locations, table), None, "{table:?}");
    }
    // A line before the first of all.
    assert_eq!(of(LineTable::Locations, b"\xe8\x17"), None);
    assert_eq!(of(LineTable::Ranges, b"\x02\xf0"), None);
    assert_eq!(of(LineTable::Lnotab, b"\x00\xf0"), None);
    let unknown = Lines {
        table: b"\x02\x01",
        is_cut: false,
        format: 7,
        first_line: 10,
    };
    assert_eq!(unknown.line(0), None);
}

proptest! {
    #[test]
    fn no_table_breaks_it(
        table: Vec<u8>,
        is_cut: bool,
        format in 0_u32..4,
        first_line: u32,
        offset: u32,
    ) {
        let lines = Lines { table: &table, is_cut, format, first_line };
        for offset in [offset, offset % 64, 0, u32::MAX] {
            let _ = lines.line(offset);
        }
    }

    #[test]
    fn a_changed_byte_breaks_nothing(
        format in prop::sample::select(RECORDED.to_vec()),
        which: prop::sample::Index,
        at: prop::sample::Index,
        byte: u8,
        offset in 0_u32..1000,
    ) {
        let lines: Vec<_> = format.1.lines().collect();
        let format = for_version(3, format.0.min(12)).unwrap().line_table;
        let text: &&str = which.get(&lines);
        let mut code = Code::parse(format, text);
        if !code.table.is_empty() {
            *at.get_mut(&mut code.table) = byte;
        }
        let _ = code.lines().line(offset);
    }
}
