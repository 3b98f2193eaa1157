//! That a program of control groups only looks: it stores nothing through its context, hands the
//! context to nothing that could, and returns 1 at every exit. Read from its instructions
//! (`Documentation/bpf/standardization/instruction-set.rst` of the kernel).

use aya_obj::generated::bpf_insn;
use std::collections::BTreeMap;

/// Helpers that change neither the socket nor an address (`linux/bpf.h`), with the number of their
/// arguments.
const HELPERS: [(i32, usize); 22] = [
    (1, 2), // map_lookup_elem
    (2, 4), // map_update_elem
    (3, 2), // map_delete_elem
    (4, 3), // probe_read
    (5, 0), // ktime_get_ns
    (8, 0), // get_smp_processor_id
    (TAIL_CALL, 3),
    (14, 0), // get_current_pid_tgid
    (15, 0), // get_current_uid_gid
    (16, 2), // get_current_comm
    (35, 0), // get_current_task
    (SOCKET_COOKIE, 1),
    (95, 1),  // sk_fullsock
    (107, 4), // sk_storage_get
    (108, 2), // sk_storage_delete
    (112, 3), // probe_read_user
    (113, 3), // probe_read_kernel
    (130, 4), // ringbuf_output
    (131, 3), // ringbuf_reserve
    (132, 2), // ringbuf_submit
    (133, 2), // ringbuf_discard
    (134, 2), // ringbuf_query
];
/// `tail_call` hands the context to a program that is checked by itself.
const TAIL_CALL: i32 = 12;
/// `get_socket_cookie` takes the context.
const SOCKET_COOKIE: i32 = 46;
/// Deepest nesting of functions that the kernel allows.
const MAX_CALLS: usize = 8;
const FRAME: usize = 10;

mod class {
    pub const LD: u8 = 0;
    pub const LDX: u8 = 1;
    pub const ST: u8 = 2;
    pub const STX: u8 = 3;
    pub const ALU: u8 = 4;
    pub const JMP: u8 = 5;
    pub const JMP32: u8 = 6;
}

const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const MOV: u8 = 0xb0;
const WIDE: u8 = 0x18;

/// What a register or a place on the stack holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// The context, or a pointer into it: on one way at least.
    Context,
    Constant(i64),
    Other,
}

use Value::{Constant, Context, Other};

impl Value {
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Context, _) | (_, Context) => Context,
            (one, other) if one == other => one,
            _ => Other,
        }
    }
}

#[derive(Clone, PartialEq)]
struct State {
    registers: [Value; 11],
    /// Words of the stack, by offset.
    stack: BTreeMap<i16, Value>,
}

impl State {
    fn entry(arguments: [Value; 5]) -> Self {
        let mut registers = [Other; 11];
        registers[1..6].copy_from_slice(&arguments);
        Self {
            registers,
            stack: BTreeMap::new(),
        }
    }

    fn join(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        for (one, other) in joined.registers.iter_mut().zip(other.registers) {
            *one = one.join(other);
        }
        for (&at, &value) in &other.stack {
            let own = joined.stack.entry(at).or_insert(Other);
            *own = own.join(value);
        }
        for (at, value) in &mut joined.stack {
            *value = value.join(other.stack.get(at).copied().unwrap_or(Other));
        }
        joined
    }

    /// Something was written to the stack that is not followed.
    fn forget_constants(&mut self) {
        self.stack.retain(|_, value| *value == Context);
    }
}

/// Checks a program, whose first argument is its context.
///
/// # Errors
/// The instruction that does more than look.
pub fn check(program: &[bpf_insn]) -> Result<(), String> {
    let arguments = [Context, Other, Other, Other, Other];
    match run(program, 0, arguments, 0)? {
        Constant(1) => Ok(()),
        other => Err(format!("returns {other:?}")),
    }
}

/// Follows a function on all ways, and returns what it returns.
fn run(
    program: &[bpf_insn],
    start: usize,
    arguments: [Value; 5],
    depth: usize,
) -> Result<Value, String> {
    if depth > MAX_CALLS {
        return Err("too many calls".to_owned());
    }
    let mut states: BTreeMap<usize, State> = BTreeMap::new();
    let mut todo = vec![(start, State::entry(arguments))];
    let mut returned: Option<Value> = None;
    while let Some((at, state)) = todo.pop() {
        let state = match states.get(&at) {
            Some(known) => {
                let joined = known.join(&state);
                if joined == *known {
                    continue;
                }
                joined
            }
            None => state,
        };
        states.insert(at, state.clone());
        let instruction = program.get(at).ok_or("runs past its end")?;
        if instruction.code == EXIT {
            let value = state.registers[0];
            returned = Some(returned.map_or(value, |known| known.join(value)));
            continue;
        }
        let (state, next) = step(program, at, instruction, state, depth)
            .map_err(|what| format!("instruction {at}: {what}"))?;
        todo.extend(next.into_iter().map(|next| (next, state.clone())));
    }
    returned.ok_or_else(|| "never returns".to_owned())
}

/// The state after an instruction, and the instructions that may follow.
fn step(
    program: &[bpf_insn],
    at: usize,
    instruction: &bpf_insn,
    mut state: State,
    depth: usize,
) -> Result<(State, Vec<usize>), String> {
    let code = instruction.code;
    let (to, from) = (
        usize::from(instruction.dst_reg()),
        usize::from(instruction.src_reg()),
    );
    let is_word = code & 0x18 == 0x18;
    let jump = |by: i64| {
        let target = i64::try_from(at).ok().and_then(|at| at.checked_add(by + 1));
        target
            .and_then(|target| usize::try_from(target).ok())
            .ok_or("jumps nowhere")
    };
    let mut next = vec![at + 1];
    match code & 7 {
        class::LD if code == WIDE => {
            state.registers[to] = Other;
            next = vec![at + 2];
        }
        class::LD => return Err("reads a packet".to_owned()),
        class::LDX => {
            let known = state.stack.get(&instruction.off).copied();
            state.registers[to] = known.filter(|_| from == FRAME && is_word).unwrap_or(Other);
        }
        class::ST | class::STX => {
            let value = match code & 7 {
                class::ST => Constant(instruction.imm.into()),
                _ => state.registers[from],
            };
            match (state.registers[to], value) {
                (Context, _) => return Err("stores through the context".to_owned()),
                (_, Context) if to != FRAME => return Err("hands the context on".to_owned()),
                _ => {}
            }
            let is_atomic = code & 7 == class::STX && code & 0xe0 == 0xc0;
            if is_atomic {
                state.registers[from] = Other;
                state.registers[0] = Other;
            }
            if to == FRAME && is_word && !is_atomic {
                state.stack.insert(instruction.off, value);
            } else {
                state.forget_constants();
            }
        }
        class::JMP | class::JMP32 => match code {
            CALL => {
                state.registers[0] = call(program, at, instruction, &state, depth)?;
                state.registers[1..6].fill(Other);
                state.forget_constants();
            }
            0x05 => next = vec![jump(instruction.off.into())?],
            0x06 => next = vec![jump(instruction.imm.into())?],
            _ => next.push(jump(instruction.off.into())?),
        },
        class => {
            let is_short = class == class::ALU;
            let operand = if code & 0x08 == 0 {
                Constant(instruction.imm.into())
            } else {
                state.registers[from]
            };
            state.registers[to] = match (code & 0xf0, operand, state.registers[to]) {
                (MOV, Constant(value), _) if is_short => Constant(value & 0xffff_ffff),
                (MOV, Context, _) if is_short => Other,
                (MOV, operand, _) => operand,
                (_, Context, _) | (_, _, Context) => Context,
                _ => Other,
            };
        }
    }
    Ok((state, next))
}

/// What a call returns.
fn call(
    program: &[bpf_insn],
    at: usize,
    instruction: &bpf_insn,
    state: &State,
    depth: usize,
) -> Result<Value, String> {
    let mut arguments = [Other; 5];
    arguments.copy_from_slice(&state.registers[1..6]);
    match instruction.src_reg() {
        0 => {
            let helper = instruction.imm;
            let Some((_, count)) = HELPERS.iter().find(|(it, _)| *it == helper) else {
                return Err(format!("calls the helper {helper}"));
            };
            let takes_context = arguments.iter().take(*count).any(|it| *it == Context);
            if takes_context && ![TAIL_CALL, SOCKET_COOKIE].contains(&helper) {
                return Err(format!("hands the context to the helper {helper}"));
            }
            Ok(Other)
        }
        1 => {
            let target = i64::try_from(at).unwrap_or_default() + 1 + i64::from(instruction.imm);
            let target = usize::try_from(target).map_err(|_| "calls nowhere")?;
            run(program, target, arguments, depth + 1)
        }
        _ => Err("calls a function of the kernel".to_owned()),
    }
}
