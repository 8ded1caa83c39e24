//! Owners of connections, each kept once, so that an entry of the table holds a number.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::model::netflow::{Identity, Owner};

/// One owner.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) identity: Arc<Identity>,
    /// What the kernel told when the identity was looked up last.
    pub(super) owner: Owner,
    used: bool,
}

/// The owners that any connection has, by number. Number 0 is nobody.
#[derive(Debug)]
pub(super) struct Owners {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// By address; the slot holds the reference, so that no address is used again while it is a key.
    by_identity: HashMap<usize, u32, RandomState>,
}

/// The number of nobody.
pub(super) const NOBODY: u32 = 0;

impl Owners {
    pub(super) fn new(nobody: Arc<Identity>) -> Self {
        let mut owners = Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_identity: HashMap::default(),
        };
        owners.intern(nobody, Owner::default());
        owners
    }

    pub(super) fn get(&self, number: u32) -> &Slot {
        // A number that was never given out is nobody.
        let slot = self.slots.get(number as usize);
        slot.unwrap_or(&self.slots[NOBODY as usize])
    }

    /// Who stands where an owner is unknown.
    pub(super) fn nobody(&self) -> Arc<Identity> {
        Arc::clone(&self.get(NOBODY).identity)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn intern(&mut self, identity: Arc<Identity>, owner: Owner) -> u32 {
        let address = Arc::as_ptr(&identity).addr();
        if let Some(&number) = self.by_identity.get(&address) {
            if number != NOBODY {
                self.slots[number as usize].owner = owner;
            }
            return number;
        }
        let slot = Slot {
            identity,
            owner,
            used: true,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                // As many as there are connections at most, which a u32 counts.
                u32::try_from(self.slots.len() - 1).unwrap_or(NOBODY)
            }
        };
        self.by_identity.insert(address, number);
        number
    }

    /// Marks a number as in use, for [`Self::sweep`].
    pub(super) fn mark(&mut self, number: u32) {
        if let Some(slot) = self.slots.get_mut(number as usize) {
            slot.used = true;
        }
    }

    /// Forgets all numbers that were not marked since the last sweep.
    pub(super) fn sweep(&mut self) {
        let nobody = Arc::clone(&self.slots[NOBODY as usize].identity);
        let vacant = Arc::as_ptr(&nobody).addr();
        for (number, slot) in (0_u32..).zip(&mut self.slots).skip(1) {
            let used = std::mem::take(&mut slot.used);
            let address = Arc::as_ptr(&slot.identity).addr();
            if !used && address != vacant {
                self.by_identity.remove(&address);
                slot.identity = Arc::clone(&nobody);
                slot.owner = Owner::default();
                self.free.push(number);
            }
        }
    }
}
