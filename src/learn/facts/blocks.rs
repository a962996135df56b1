//! A list in blocks, that grows without moving what it holds.

/// Least and most room of a block.
const ROOM: (usize, usize) = (4, 256);

/// A list to whose end things are added. As a vector it would be copied each time it is full, and then have room
/// for as much again.
#[derive(Clone, Debug)]
pub(super) struct Blocks<T> {
    blocks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Blocks { blocks: Vec::new(), len: 0 }
    }
}

impl<T> Blocks<T> {
    pub(super) fn push(&mut self, value: T) {
        if self.blocks.last().is_none_or(|block| block.len() == block.capacity()) {
            self.blocks.push(Vec::with_capacity((self.len / 2).clamp(ROOM.0, ROOM.1)));
        }
        if let Some(block) = self.blocks.last_mut() {
            block.push(value);
            self.len += 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn last(&self) -> Option<&T> {
        self.blocks.last().and_then(|block| block.last())
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut T> {
        self.blocks.last_mut().and_then(|block| block.last_mut())
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.blocks.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_comes_back_in_order_and_little_room_is_left() {
        for count in [0, 1, 4, 5, 100, 5000] {
            let mut blocks = Blocks::default();
            (0..count).for_each(|i| blocks.push(i));
            assert_eq!(blocks.len(), count);
            assert!(blocks.iter().copied().eq(0..count) && blocks.iter().rev().copied().eq((0..count).rev()));
            assert_eq!(
                (blocks.last().copied(), blocks.last_mut().copied()),
                (count.checked_sub(1), count.checked_sub(1))
            );
            let room: usize = blocks.blocks.iter().map(Vec::capacity).sum();
            assert!(room - count <= (count / 2).clamp(ROOM.0, ROOM.1), "{room} for {count}");
        }
    }
}
