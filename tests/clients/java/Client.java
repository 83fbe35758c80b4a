import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.CallCredentials;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.StreamObserver;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import quintet.anomaly.v1.Anomaly;
import quintet.anomaly.v1.AnomalyServiceGrpc;
import quintet.evaluation.v1.EvaluationOuterClass;
import quintet.evaluation.v1.EvaluationServiceGrpc;
import quintet.image.v1.ImageOuterClass;
import quintet.image.v1.ImageServiceGrpc;
import quintet.text.v1.Text;
import quintet.text.v1.TextServiceGrpc;

/**
 * A client of Quintet in Java: streams text, draws letters, scores rows, runs an evaluation, reads what an error says.
 *
 * <pre>java -cp … Client 127.0.0.1:50051 [--tls CA] [--key KEY]</pre>
 */
public final class Client {
  /** Seconds that a call may take. The server sets no limit of its own: clients should. */
  private static final long DEADLINE = 30;

  /** The key in the metadata of each call. */
  private static final class Key extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    private final String key;

    Key(String key) {
      this.key = key;
    }

    @Override
    public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
      Metadata headers = new Metadata();
      headers.put(AUTHORIZATION, "Bearer " + key);
      applier.apply(headers);
    }

    @Override
    public void thisUsesUnstableApi() {}
  }

  private final ManagedChannel channel;
  private final CallCredentials credentials;

  private Client(ManagedChannel channel, CallCredentials credentials) {
    this.channel = channel;
    this.credentials = credentials;
  }

  /** A client over a channel that is plain, or over TLS with a key. */
  private static Client connect(String address, String ca, String key) throws IOException {
    var channelCredentials =
        ca == null ? InsecureChannelCredentials.create() : TlsChannelCredentials.newBuilder().trustManager(new File(ca)).build();
    return new Client(Grpc.newChannelBuilder(address, channelCredentials).build(), key == null ? null : new Key(key));
  }

  /** A stub for one call: with a deadline that begins now, and with the key. */
  private <S extends AbstractStub<S>> S ready(S stub) {
    return stub.withCallCredentials(credentials).withDeadlineAfter(DEADLINE, TimeUnit.SECONDS);
  }

  private String streamText() {
    var request =
        Text.GenerateRequest.newBuilder()
            .setPrompt("And the king said")
            .setSampling(Text.Sampling.newBuilder().setSeed(3))
            .setStopping(Text.Stopping.newBuilder().setMaxNewTokens(32))
            .build();
    var pieces =
        ready(TextServiceGrpc.newBlockingStub(channel))
            .generateStream(Text.GenerateStreamRequest.newBuilder().setRequest(request).build());
    System.out.print(request.getPrompt());
    int tokens = 0;
    while (pieces.hasNext()) {
      var piece = pieces.next();
      System.out.print(piece.getText());
      tokens = piece.getUsage().getCompletionTokens();
    }
    System.out.println();
    return tokens + " tokens streamed";
  }

  private String cancelText() {
    var request =
        Text.GenerateRequest.newBuilder()
            .setPrompt("And")
            .setStopping(Text.Stopping.newBuilder().setMaxNewTokens(200).setIgnoreEos(true));
    var message = Text.GenerateStreamRequest.newBuilder().setRequest(request).build();
    // A call of a blocking stub is cancelled by the context that it began in.
    Context.CancellableContext context = Context.current().withCancellation();
    Context before = context.attach();
    try {
      var pieces = ready(TextServiceGrpc.newBlockingStub(channel)).generateStream(message);
      for (int count = 1; pieces.hasNext(); count++) {
        pieces.next();
        if (count == 8) {
          // Leaving the loop is not enough: the server generates until the call is cancelled or its deadline passes.
          context.cancel(null);
        }
      }
    } catch (StatusRuntimeException fault) {
      if (fault.getStatus().getCode() != Status.Code.CANCELLED) {
        throw fault;
      }
      System.out.println("cancelled a stream after 8 pieces");
      return "1 stream cancelled";
    } finally {
      context.detach(before);
      context.cancel(null);
    }
    throw new IllegalStateException("a cancelled stream went on to its end");
  }

  private String drawLetters() throws IOException {
    var request =
        ImageOuterClass.GenerateRequest.newBuilder()
            .setCount(8)
            .setClasses(ImageOuterClass.ClassSelection.newBuilder().addNames("A").addNames("B"))
            .setSeed(1)
            .setGrid(ImageOuterClass.Grid.newBuilder().setColumns(4))
            .build();
    var picture = ready(ImageServiceGrpc.newBlockingStub(channel)).generate(request).getImages(0);
    Files.write(Path.of("letters.png"), picture.getData().toByteArray());
    System.out.printf("wrote letters.png, %d x %d pixels%n", picture.getWidth(), picture.getHeight());
    return "letters.png of " + picture.getData().size() + " bytes";
  }

  /** Prints scores as they come, and completes with how many there were and how many over the threshold. */
  private static final class Scores implements StreamObserver<Anomaly.ScoreStreamResponse> {
    final CompletableFuture<String> result = new CompletableFuture<>();
    private int scored;
    private int over;

    @Override
    public void onNext(Anomaly.ScoreStreamResponse answer) {
      var score = answer.getScore();
      System.out.printf(
          Locale.ROOT,
          "row %d: score %.4f, threshold %.4f%s%n",
          answer.getIndex(),
          score.getScore(),
          score.getThreshold(),
          score.getIsAnomaly() ? ", an anomaly" : "");
      scored++;
      over += score.getIsAnomaly() ? 1 : 0;
    }

    @Override
    public void onError(Throwable fault) {
      result.completeExceptionally(fault);
    }

    @Override
    public void onCompleted() {
      result.complete(scored + " rows scored, " + over + " over the threshold");
    }
  }

  private String scoreRows() {
    String model = "vae-breast-cancer";
    var drawn =
        ready(AnomalyServiceGrpc.newBlockingStub(channel))
            .sample(Anomaly.SampleRequest.newBuilder().setModel(model).setCount(4).setSeed(1).build());
    List<Anomaly.Values> rows = new ArrayList<>(drawn.getSamplesList());
    var far = Anomaly.Values.newBuilder();
    rows.get(0).getValuesList().forEach(value -> far.addValues(10 * value));
    rows.add(far.build());

    Scores scores = new Scores();
    StreamObserver<Anomaly.ScoreStreamRequest> messages = ready(AnomalyServiceGrpc.newStub(channel)).scoreStream(scores);
    for (int index = 0; index < rows.size(); index++) {
      var sample = Anomaly.SampleData.newBuilder().setValues(rows.get(index));
      // The first message settles the model for all.
      messages.onNext(Anomaly.ScoreStreamRequest.newBuilder().setModel(index == 0 ? model : "").setSample(sample).build());
    }
    messages.onCompleted();
    try {
      return scores.result.join();
    } catch (CompletionException fault) {
      throw Status.fromThrowable(fault.getCause()).asRuntimeException();
    }
  }

  private String evaluate() {
    var stub = EvaluationServiceGrpc.newBlockingStub(channel);
    var request =
        EvaluationOuterClass.CreateEvaluationRequest.newBuilder()
            .setAnomaly(EvaluationOuterClass.AnomalyEvaluation.newBuilder().setModel("vae-digits"))
            .setBootstrapResamples(100)
            .build();
    var job = ready(stub).createEvaluation(request).getEvaluation();
    var states = ready(stub).watchEvaluation(EvaluationOuterClass.WatchEvaluationRequest.newBuilder().setId(job.getId()).build());
    while (states.hasNext()) {
      job = states.next().getEvaluation();
      System.out.printf("%s %s %d/%d%n", job.getState(), job.getStage(), job.getProgressDone(), job.getProgressTotal());
    }
    if (job.getState() != EvaluationOuterClass.EvaluationState.EVALUATION_STATE_SUCCEEDED) {
      throw new IllegalStateException("the evaluation did not succeed: " + job.getError());
    }
    var metric = job.getMetrics(0);
    System.out.printf(
        Locale.ROOT,
        "%s %.4f [%.4f, %.4f], n = %d%n",
        metric.getName(),
        metric.getValue(),
        metric.getInterval().getLower(),
        metric.getInterval().getUpper(),
        metric.getSampleSize());
    return String.format(Locale.ROOT, "%s %.4f", metric.getName(), metric.getValue());
  }

  private String readRefusal() throws InvalidProtocolBufferException {
    try {
      ready(ImageServiceGrpc.newBlockingStub(channel))
          .generate(ImageOuterClass.GenerateRequest.newBuilder().setCount(5000).setTruncationPsi(2).build());
    } catch (StatusRuntimeException fault) {
      if (fault.getStatus().getCode() != Status.Code.INVALID_ARGUMENT) {
        throw fault;
      }
      String reason = "";
      List<String> fields = new ArrayList<>();
      for (Any detail : StatusProto.fromThrowable(fault).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          reason = detail.unpack(ErrorInfo.class).getReason();
        } else if (detail.is(BadRequest.class)) {
          for (var violation : detail.unpack(BadRequest.class).getFieldViolationsList()) {
            System.out.println(violation.getField() + ": " + violation.getDescription());
            fields.add(violation.getField());
          }
        }
      }
      return "refused with " + reason + ": " + String.join(", ", fields);
    }
    throw new IllegalStateException("5,000 images with a truncation of 2 were not refused");
  }

  private static int usage() {
    System.err.println("usage: Client ADDRESS [--tls CA] [--key KEY]; --key needs --tls");
    return 64;
  }

  private static int run(String[] arguments) throws InterruptedException {
    String address = null;
    String ca = null;
    String key = null;
    for (Iterator<String> rest = List.of(arguments).iterator(); rest.hasNext(); ) {
      String argument = rest.next();
      if (argument.equals("--tls") && rest.hasNext()) {
        ca = rest.next();
      } else if (argument.equals("--key") && rest.hasNext()) {
        key = rest.next();
      } else if (address == null && !argument.startsWith("--")) {
        address = argument;
      } else {
        return usage();
      }
    }
    // Whoever reads a key on the way can use it.
    if (address == null || (key != null && ca == null)) {
      return usage();
    }
    ManagedChannel channel = null;
    try {
      Client client = connect(address, ca, key);
      channel = client.channel;
      var done =
          List.of(
              client.streamText(),
              client.cancelText(),
              client.drawLetters(),
              client.scoreRows(),
              client.evaluate(),
              client.readRefusal());
      System.out.println("ok: " + String.join(", ", done));
      return 0;
    } catch (StatusRuntimeException | IllegalStateException | IOException fault) {
      System.err.println("failed: " + fault.getMessage());
      return 1;
    } finally {
      if (channel != null) {
        channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
      }
    }
  }

  public static void main(String[] arguments) throws InterruptedException {
    System.exit(run(arguments));
  }
}
