//! What the beginning of an `.npy` file says of its numbers. Read in one pass over its text, whatever stands there.

use crate::proto::Dtype;

/// Headers are shorter than this.
pub(super) const LONGEST: u64 = 1 << 17;
/// More axes than numpy allows are no array.
const MOST_AXES: usize = 64;

/// What an `.npy` file says of its numbers.
#[derive(Debug)]
pub(super) struct Header {
    pub dtype: Dtype,
    pub dims: Vec<usize>,
    /// Where the numbers begin and end.
    pub start: usize,
    pub end: usize,
    /// Whether each number has its last byte first.
    pub swapped: bool,
    /// Whether the elements stand in column-major order.
    pub fortran: bool,
}

impl Header {
    /// Reads the beginning of a file. Errors: it is no numpy array, or one of elements that no tensor has.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let wrong = |problem: &str| format!("no numpy array: {problem}");
        let (text, start) = text(bytes).ok_or_else(|| wrong("its header is cut off"))?;
        let fields = Fields::read(text)
            .map_err(|at| wrong(&format!("its header cannot be read from character {at} on")))?;
        let (Some(descr), Some(fortran), Some(shape)) =
            (fields.descr, fields.fortran, fields.shape)
        else {
            return Err(wrong("its header lacks the type, the order or the shape"));
        };
        if shape.len() > MOST_AXES {
            return Err(wrong(&format!("{} axes", shape.len())));
        }
        let (dtype, swapped) = element(descr).ok_or_else(|| {
            format!("element type {descr} is not supported; save numbers or truth values")
        })?;
        let dims: Option<Vec<usize>> = shape.iter().map(|dim| usize::try_from(*dim).ok()).collect();
        let end = dims
            .as_ref()
            .and_then(|dims| {
                dims.iter()
                    .try_fold(dtype.bits() / 8, |product, dim| product.checked_mul(*dim))
            })
            .and_then(|length| start.checked_add(length));
        let (Some(dims), Some(end)) = (dims, end) else {
            return Err("its shape is larger than memory can address".into());
        };
        Ok(Header {
            dtype,
            start,
            end,
            swapped,
            fortran: fortran && dims.len() > 1,
            dims,
        })
    }

    /// Errors: the numbers are not all there in a file of so many bytes.
    pub fn fits(&self, total: u64) -> Result<(), String> {
        let (start, end) = (self.start as u64, self.end as u64);
        if end > total {
            return Err(format!(
                "cut off: {} bytes of numbers where {} are expected",
                total.saturating_sub(start),
                end - start
            ));
        }
        Ok(())
    }
}

/// The header's text and where the numbers begin.
fn text(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let ([major, _], rest) = rest.split_first_chunk()?;
    let (length, rest) = match major {
        1 => rest
            .split_first_chunk()
            .map(|(length, rest)| (usize::from(u16::from_le_bytes(*length)), rest))?,
        2 | 3 => rest
            .split_first_chunk()
            .map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest))?,
        _ => return None,
    };
    Some((rest.get(..length)?, bytes.len() - rest.len() + length))
}

/// A type of numpy, `<f4`: the tensor's, and whether each element has its last byte first.
fn element(descr: &str) -> Option<(Dtype, bool)> {
    let (order, kind) = match descr.as_bytes().first()? {
        b'<' | b'|' | b'=' => (false, descr.get(1..)?),
        b'>' => (true, descr.get(1..)?),
        _ => (false, descr),
    };
    let dtype = match kind {
        "b1" | "?" => Dtype::Bool,
        "i1" => Dtype::Int8,
        "i2" => Dtype::Int16,
        "i4" => Dtype::Int32,
        "i8" => Dtype::Int64,
        "u1" => Dtype::Uint8,
        "u2" => Dtype::Uint16,
        "u4" => Dtype::Uint32,
        "u8" => Dtype::Uint64,
        "f2" => Dtype::Float16,
        "f4" => Dtype::Float,
        "f8" => Dtype::Double,
        _ => return None,
    };
    Some((dtype, order && dtype.bits() > 8))
}

/// The three fields of a header, written as a dictionary of Python.
#[derive(Default)]
struct Fields<'a> {
    descr: Option<&'a str>,
    fortran: Option<bool>,
    shape: Option<Vec<u64>>,
}

impl<'a> Fields<'a> {
    /// Errors: the place of the first character that does not belong there.
    fn read(text: &'a [u8]) -> Result<Self, usize> {
        let mut cursor = Cursor { text, at: 0 };
        let mut fields = Fields::default();
        cursor.require(b'{')?;
        while !cursor.take(b'}') {
            let key = cursor.string()?;
            cursor.require(b':')?;
            match key {
                "descr" => fields.descr = Some(cursor.descr()?),
                "fortran_order" => fields.fortran = Some(cursor.truth()?),
                "shape" => fields.shape = Some(cursor.numbers()?),
                _ => return Err(cursor.at),
            }
            if !cursor.take(b',') {
                cursor.require(b'}')?;
                break;
            }
        }
        Ok(fields)
    }
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn require(&mut self, wanted: u8) -> Result<(), usize> {
        if self.take(wanted) {
            Ok(())
        } else {
            Err(self.at)
        }
    }

    /// The characters from here up to the first that does not belong.
    fn while_in(&mut self, belongs: impl Fn(u8) -> bool) -> Result<&'a str, usize> {
        let from = self.at;
        while self
            .text
            .get(self.at)
            .is_some_and(|character| belongs(*character))
        {
            self.at += 1;
        }
        self.text
            .get(from..self.at)
            .and_then(|text| std::str::from_utf8(text).ok())
            .ok_or(from)
    }

    fn string(&mut self) -> Result<&'a str, usize> {
        let quote = self
            .peek()
            .filter(|quote| matches!(quote, b'\'' | b'"'))
            .ok_or(self.at)?;
        self.at += 1;
        let inside = self.while_in(|character| character != quote)?;
        self.require(quote)?;
        Ok(inside)
    }

    /// A type; of one that has fields, the beginning: no tensor has any.
    fn descr(&mut self) -> Result<&'a str, usize> {
        if self.peek() != Some(b'[') {
            return self.string();
        }
        // The fields end with the bracket that closes them; what they are does not matter.
        let (from, mut open) = (self.at, 0usize);
        loop {
            match self.text.get(self.at) {
                Some(b'[') => open += 1,
                Some(b']') => open -= 1,
                Some(_) => {}
                None => return Err(self.at),
            }
            self.at += 1;
            if open == 0 {
                let shown = self
                    .text
                    .get(from..self.at.min(from + 80))
                    .unwrap_or_default();
                return std::str::from_utf8(shown).map_err(|_| from);
            }
        }
    }

    fn truth(&mut self) -> Result<bool, usize> {
        self.peek();
        match self.while_in(|character| character.is_ascii_alphabetic())? {
            "True" => Ok(true),
            "False" => Ok(false),
            _ => Err(self.at),
        }
    }

    fn numbers(&mut self) -> Result<Vec<u64>, usize> {
        let mut numbers = Vec::new();
        self.require(b'(')?;
        while !self.take(b')') {
            let digits = self.while_in(|character| character.is_ascii_digit())?;
            numbers.push(digits.parse().map_err(|_| self.at)?);
            // Long numbers of Python 2 end with a letter.
            self.take(b'L');
            if !self.take(b',') {
                self.require(b')')?;
                break;
            }
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<Header, String> {
        let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.bytes());
        Header::read(&bytes)
    }

    #[test]
    fn headers_of_all_versions_are_read() {
        let found =
            header("{'descr': '>f8', \"fortran_order\" :True,'shape': (3L, 2) }  \n").unwrap();
        assert_eq!(
            (found.dtype, &found.dims[..], found.fortran, found.swapped),
            (Dtype::Double, &[3, 2][..], true, true)
        );
        assert_eq!(found.end - found.start, 48);
        let scalar = header("{'descr': '|u1', 'fortran_order': True, 'shape': (), }").unwrap();
        assert_eq!(
            (scalar.dims.len(), scalar.end - scalar.start, scalar.fortran),
            (0, 1, false)
        );
    }

    #[test]
    fn what_is_no_header_is_refused_at_once() {
        let deep = "[".repeat(100_000);
        for text in [
            deep.as_str(),
            &format!("{{'descr': {deep}"),
            &"(".repeat(1000),
            "{'shape': (1,), ",
            "{'a': 1}",
            "",
        ] {
            assert!(
                header(text).unwrap_err().contains("no numpy array"),
                "{text:.40}"
            );
        }
        let fields = header("{'descr': [('a', '<f4'), ('b', [('c', '<f4')])], 'fortran_order': False, 'shape': (2,)}").unwrap_err();
        assert!(fields.contains("not supported"), "{fields}");
        let axes = format!(
            "{{'descr': '<f4', 'fortran_order': False, 'shape': ({})}}",
            "1,".repeat(65)
        );
        assert!(header(&axes).unwrap_err().contains("65 axes"));
        assert!(
            Header::read(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{")
                .unwrap_err()
                .contains("cut off")
        );
    }
}
