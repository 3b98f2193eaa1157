//! The system calls of a process and its threads, from strace's log.

/// A system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The thread that made it.
    pub tid: u32,
    pub name: String,
    /// The text after the parenthesis: arguments, and the result if it returned at once.
    pub rest: String,
}

/// All calls in a log of `strace -f`, from the execution of this program on.
#[must_use]
pub fn calls_of(log: &str, program: &str) -> Vec<Call> {
    let became = format!("execve(\"{program}\"");
    let is_start = |line: &&str| line.contains(&became);
    let own = log.lines().skip_while(|line| !is_start(line)).skip(1);
    own.filter_map(call).collect()
}

/// Reads `4242 close(3) = 0`; none for signals, exits and resumed calls.
fn call(line: &str) -> Option<Call> {
    let (tid, line) = line.split_once(' ')?;
    let tid = tid.parse().ok()?;
    let (name, rest) = line.trim_start().split_once('(')?;
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then(|| Call {
        tid,
        name: name.to_owned(),
        rest: rest.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::calls_of;

    #[test]
    fn calls_are_those_of_the_program_by_name() {
        let log = "7 setresuid(1, 1, 1) = 0\n\
                   7 execve(\"/bin/observer\", [\"x\"], 0x7f /* 3 vars */) = 0\n\
                   7 close(3) = 0\n\
                   8     read(4,  <unfinished ...>\n\
                   8 <... read resumed>\"(\", 1) = 1\n\
                   7 --- SIGTERM {si_signo=SIGTERM} ---\n\
                   7 +++ exited with 0 +++\n";
        let calls = calls_of(log, "/bin/observer");
        let names: Vec<_> = calls.iter().map(|call| call.name.as_str()).collect();
        assert_eq!(names, ["close", "read"]);
        assert_eq!(calls[0].rest, "3) = 0");
        assert_eq!([calls[0].tid, calls[1].tid], [7, 8]);
        assert!(calls_of(log, "/bin/other").is_empty());
    }
}
