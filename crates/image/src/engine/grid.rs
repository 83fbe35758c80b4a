//! Many pictures in one.

use super::picture::Picture;

/// Columns for `count` pictures where none are asked for: about a square.
pub fn columns(count: usize) -> usize {
    (1..=count).find(|columns| columns * columns >= count).unwrap_or(1)
}

/// Width and height of a grid in pixels.
pub fn size(count: usize, columns: usize, border: usize, width: usize, height: usize) -> (usize, usize) {
    let rows = count.div_ceil(columns.max(1));
    (columns * (width + border) + border, rows * (height + border) + border)
}

/// Lays pictures of one size out in rows, from the top left. Borders and places left over are white.
pub fn compose(pictures: &[Picture], columns: usize, border: usize) -> Picture {
    let Some(first) = pictures.first() else { return Picture { width: 0, height: 0, channels: 1, data: Vec::new() } };
    let (width, height, channels) = (first.width as usize, first.height as usize, first.channels as usize);
    let (whole_width, whole_height) = size(pictures.len(), columns, border, width, height);
    let mut data = vec![255; whole_width * whole_height * channels];
    for (index, picture) in pictures.iter().enumerate() {
        let (row, column) = (index / columns.max(1), index % columns.max(1));
        let (top, left) = (border + row * (height + border), border + column * (width + border));
        for (y, line) in picture.data.chunks(width * channels).enumerate() {
            let start = ((top + y) * whole_width + left) * channels;
            if let Some(target) = data.get_mut(start..start + line.len()) {
                target.copy_from_slice(line);
            }
        }
    }
    Picture { width: whole_width as u32, height: whole_height as u32, channels: channels as u32, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_in_rows_with_white_between() {
        let dot = |value| Picture { width: 1, height: 1, channels: 1, data: vec![value] };
        let grid = compose(&[dot(1), dot(2), dot(3)], 2, 1);
        assert_eq!((grid.width, grid.height), (5, 5));
        let rows: Vec<&[u8]> = grid.data.chunks(5).collect();
        assert_eq!(rows[1], [255, 1, 255, 2, 255]);
        assert_eq!(rows[3], [255, 3, 255, 255, 255]);
    }

    #[test]
    fn about_a_square() {
        assert_eq!([1, 2, 4, 5, 36].map(columns), [1, 2, 2, 3, 6]);
    }
}
