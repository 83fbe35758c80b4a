use std::collections::HashMap;

use super::proto::{ModelProto, Type};
use crate::engine::formats::Error;

/// The most pieces taken: four times the largest vocabulary published.
const MAX_PIECES: usize = 1 << 20;
/// The longest piece taken, in bytes. What a piece costs to convert grows with the square of its length.
const MAX_PIECE: usize = 512;

/// One entry of the vocabulary.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: Type,
}

/// The vocabulary, checked as `SentencePiece` checks it at loading.
pub(super) struct Pieces {
    list: Vec<Piece>,
    ids: HashMap<String, u32>,
    unknown: u32,
}

impl Pieces {
    pub(super) fn new(model: &ModelProto) -> Result<Self, Error> {
        if model.pieces.len() > MAX_PIECES {
            return Err(Error::Unsupported(format!("{} pieces; at most {MAX_PIECES} are taken", model.pieces.len())));
        }
        let mut list = Vec::with_capacity(model.pieces.len());
        let mut ids = HashMap::with_capacity(model.pieces.len());
        let mut unknown = None;
        for (id, piece) in (0_u32..).zip(&model.pieces) {
            let broken = |reason: &str| Error::Broken(format!("piece {id}: {reason}"));
            let text = piece.piece().to_owned();
            if text.is_empty() {
                return Err(broken("it is empty"));
            }
            if text.len() > MAX_PIECE {
                return Err(Error::Unsupported(format!("piece {id} has {} bytes; at most {MAX_PIECE} are taken", text.len())));
            }
            let kind = piece.r#type.map_or(Ok(Type::Normal), Type::try_from).map_err(|_| broken("its type is unknown"))?;
            let score = piece.score();
            if !score.is_finite() {
                return Err(broken("its score is no number"));
            }
            if ids.insert(text.clone(), id).is_some() {
                return Err(broken(&format!("{text:?} is defined twice")));
            }
            if kind == Type::Unknown && unknown.replace(id).is_some() {
                return Err(broken("there is an unknown piece before it"));
            }
            if kind == Type::Byte && byte_of(&text).is_none() {
                return Err(broken(&format!("{text:?} does not name a byte")));
            }
            list.push(Piece { text, score, kind });
        }
        let unknown = unknown.ok_or_else(|| Error::Broken("there is no unknown piece".to_owned()))?;
        Ok(Self { list, ids, unknown })
    }

    /// All pieces with their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Piece)> {
        (0_u32..).zip(&self.list)
    }

    pub(super) fn of_kind(&self, kind: Type) -> impl Iterator<Item = (u32, &Piece)> {
        self.iter().filter(move |(_, piece)| piece.kind == kind)
    }

    pub(super) fn get(&self, text: &str) -> Option<(u32, &Piece)> {
        let id = *self.ids.get(text)?;
        self.list.get(id as usize).map(|piece| (id, piece))
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The one unknown piece.
    pub(super) fn unknown(&self) -> (u32, &str) {
        (self.unknown, self.list.get(self.unknown as usize).map_or("<unk>", |piece| piece.text.as_str()))
    }

    /// The user-defined pieces, longest first: the order in which they are looked for.
    pub(super) fn user_defined(&self) -> Vec<&str> {
        let mut pieces: Vec<_> = self.of_kind(Type::UserDefined).map(|(_, piece)| piece.text.as_str()).collect();
        pieces.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        pieces
    }
}

/// The byte of a piece `<0x41>`.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let byte = u8::from_str_radix(digits, 16).ok()?;
    (format!("<0x{byte:02X}>") == text).then_some(byte)
}
