//! Arrays in column-major order, as Fortran and Matlab write them, put into row-major order.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};

/// Bytes of a block that is turned in memory.
const BLOCK: usize = 32 << 20;
/// Elements of a row that a block has at least where it does not have all rows: fewer would be written one by one.
const STRETCH: usize = 2048;

/// Elements in column-major order, put into row-major order.
pub(super) fn row_major(bytes: &[u8], dims: &[usize], size: usize) -> Vec<u8> {
    let mut strides = Vec::with_capacity(dims.len());
    dims.iter().fold(size, |stride, dim| {
        strides.push(stride);
        stride * dim
    });
    let mut sorted = Vec::with_capacity(bytes.len());
    let mut index = vec![0; dims.len()];
    let mut at = 0;
    for _ in 0..bytes.len() / size {
        sorted.extend_from_slice(bytes.get(at..at + size).unwrap_or_default());
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            at -= strides[axis] * dims[axis];
            index[axis] = 0;
        }
    }
    sorted
}

/// The entries of the first axis of a column-major array, one after the other, each still in column-major order. `start`:
/// where the array begins in the file. Errors: what the file system says.
pub(super) fn rows_first(
    file: &Mutex<File>,
    start: u64,
    dims: &[usize],
    size: usize,
) -> Result<File> {
    let mut from = file.lock().unwrap_or_else(PoisonError::into_inner);
    let rows = dims.first().copied().unwrap_or(1);
    let columns = dims.get(1..).unwrap_or_default().iter().product();
    let mut turned = tempfile::tempfile()?;
    turn(&mut *from, start, &mut turned, [rows, columns, size], BLOCK)?;
    Ok(turned)
}

/// Writes a matrix of so many rows and columns of elements of so many bytes, which lies column after column from `start` on,
/// row after row, in blocks of about so many bytes.
fn turn(
    from: &mut (impl Read + Seek),
    start: u64,
    to: &mut (impl Write + Seek),
    [rows, columns, size]: [usize; 3],
    block: usize,
) -> Result<()> {
    let most = (block / size.max(1)).max(1);
    let wide = (most / rows.max(1)).max(STRETCH.min(most)).min(columns);
    let tall = (most / wide.max(1)).clamp(1, rows.max(1));
    for column in (0..columns).step_by(wide.max(1)) {
        let width = wide.min(columns - column);
        for row in (0..rows).step_by(tall) {
            let height = tall.min(rows - row);
            let block = read_block(from, start, [rows, size], [row, height], [column, width])?;
            let sorted = row_major(&block, &[height, width], size);
            // Whole rows lie one after the other.
            let part = if width == columns {
                sorted.len()
            } else {
                width * size
            };
            for (at, part) in sorted.chunks_exact(part).enumerate() {
                to.seek(SeekFrom::Start(place([columns, size], row + at, column)))?;
                to.write_all(part)?;
            }
        }
    }
    Ok(())
}

/// Reads some rows of some columns, each given by the first and how many.
fn read_block(
    from: &mut (impl Read + Seek),
    start: u64,
    [rows, size]: [usize; 2],
    [row, height]: [usize; 2],
    [column, width]: [usize; 2],
) -> Result<Vec<u8>> {
    let mut block = vec![0; width * height * size];
    if height == rows {
        from.seek(SeekFrom::Start(start + place([rows, size], column, 0)))?;
        from.read_exact(&mut block)?;
        return Ok(block);
    }
    for (at, part) in block.chunks_exact_mut(height * size).enumerate() {
        from.seek(SeekFrom::Start(
            start + place([rows, size], column + at, row),
        ))?;
        from.read_exact(part)?;
    }
    Ok(block)
}

/// Where an element lies in a matrix of lines of so many elements of so many bytes.
fn place([extent, size]: [usize; 2], line: usize, at: usize) -> u64 {
    (line as u64 * extent as u64 + at as u64) * size as u64
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_matrix_is_turned_block_by_block_whatever_its_form() {
        for [rows, columns] in [[5, 7], [1, 9], [9, 1], [3, 5000], [5000, 3], [0, 4], [4, 0]] {
            let element =
                |row: usize, column: usize| ((row * columns + column) as u16).to_le_bytes();
            let lying: Vec<u8> = (0..columns)
                .flat_map(|column| (0..rows).flat_map(move |row| element(row, column)))
                .collect();
            let wanted: Vec<u8> = (0..rows)
                .flat_map(|row| (0..columns).flat_map(move |column| element(row, column)))
                .collect();
            for block in [1, 8, 60, 10_000, 1 << 20] {
                let mut from = Cursor::new([&[0; 3][..], &lying].concat());
                let mut to = Cursor::new(Vec::new());
                turn(&mut from, 3, &mut to, [rows, columns, 2], block).unwrap();
                assert!(to.into_inner() == wanted, "{rows}×{columns} by {block}");
            }
        }
    }
}
