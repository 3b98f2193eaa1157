//! Numbers of the workers of a master: a new one takes the lowest that is free.

use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub struct Slots {
    /// Those given back, all of them below `next`.
    free: BTreeSet<u32>,
    /// The first that nobody ever had.
    next: u32,
}

impl Slots {
    /// The lowest number free, which is taken from now on.
    pub fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// A worker ended.
    pub fn give_back(&mut self, slot: u32) {
        self.free.insert(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken() {
        let mut slots = Slots::default();
        assert_eq!([slots.take(), slots.take(), slots.take()], [0, 1, 2]);
        slots.give_back(1);
        slots.give_back(0);
        assert_eq!([slots.take(), slots.take(), slots.take()], [0, 1, 3]);
    }
}
