/// What to evaluate, with every default filled in that can be known beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is evaluated.
    pub subject: Subject,
    /// Seeds the samples, subsets and resamples.
    pub seed: u64,
    /// Resamples of the bootstrap.
    pub resamples: usize,
}

/// What is evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A generator of images.
    Image(ImagePlan),
    /// A language model.
    Text(TextPlan),
    /// A detector of anomalies.
    Anomaly(AnomalyPlan),
}

/// Generated images against real ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePlan {
    /// The model; empty = the image service's default one, until it has said which that is.
    pub model: String,
    /// The data set of real images.
    pub dataset: String,
    /// The classifier.
    pub classifier: String,
    /// How many images to generate.
    pub samples: usize,
}

/// Perplexity of held-out text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPlan {
    /// The model; empty = the text service's default one, until it has said which that is.
    pub model: String,
    /// The data set.
    pub dataset: String,
    /// How many documents to score, from the first.
    pub documents: usize,
}

/// Anomalies against normals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnomalyPlan {
    /// The model; empty = the anomaly service's default one, until it has said which that is.
    pub model: String,
    /// The data set; empty = the one named after the model, where the model is not known yet.
    pub dataset: String,
}
