//! A passage of the King James Bible (public domain), and a summary of it.

/// What texts go on from: Genesis 2:4 to 2:15.
pub(crate) const PROMPT: &str = "These are the generations of the heavens and of the earth when they were created, in the day that the LORD \
God made the earth and the heavens, And every plant of the field before it was in the earth, and every herb of the field before it grew: for \
the LORD God had not caused it to rain upon the earth, and there was not a man to till the ground. But there went up a mist from the earth, \
and watered the whole face of the ground. And the LORD God formed man of the dust of the ground, and breathed into his nostrils the breath of \
life; and man became a living soul. And the LORD God planted a garden eastward in Eden; and there he put the man whom he had formed. And a \
river went out of Eden to water the garden; and from thence it was parted, and became into four heads. The name of the first is Pison: that is \
it which compasseth the whole land of Havilah, where there is gold; And the LORD God took the man, and put him into the garden of Eden to \
dress it and to keep it.";

/// One of its verses.
pub(crate) const VERSE: &str = "And the LORD God formed man of the dust of the ground, and breathed into his nostrils the breath of life; and \
man became a living soul.";

/// Partly in its words, partly in others.
pub(crate) const SUMMARY: &str = "At first no rain fell, and there was not a man to till the ground; a mist watered the whole face of the \
ground. The LORD God formed man of the dust of the ground, breathed into him the breath of life, and planted a garden eastward in Eden. A \
river went out of Eden and became into four heads, the first of which runs around the land of Havilah, where there is gold. Then God put the \
man into the garden of Eden to dress it and to keep it.";
