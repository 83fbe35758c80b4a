// A client of Quintet in C++: streams text, draws letters, scores rows, runs an evaluation, reads what an error says.
//
//     client 127.0.0.1:50051 [--tls CA] [--key KEY]

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/error_details.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "quintet/anomaly/v1/anomaly.grpc.pb.h"
#include "quintet/evaluation/v1/evaluation.grpc.pb.h"
#include "quintet/image/v1/image.grpc.pb.h"
#include "quintet/text/v1/text.grpc.pb.h"

namespace anomaly = quintet::anomaly::v1;
namespace evaluation = quintet::evaluation::v1;
namespace image = quintet::image::v1;
namespace text = quintet::text::v1;

namespace {

// How long a call may take. The server sets no limit of its own: clients should.
constexpr std::chrono::seconds kDeadline{30};

// What one call needs beside its request. A context serves one call alone.
class Call : public grpc::ClientContext {
 public:
  Call() { set_deadline(std::chrono::system_clock::now() + kDeadline); }
};

void Check(const grpc::Status& status) {
  if (!status.ok()) {
    throw std::runtime_error("status " + std::to_string(status.error_code()) + ": " + status.error_message());
  }
}

std::string Format(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// A channel: plain, or over TLS with the key in the metadata of each call.
std::shared_ptr<grpc::Channel> Connect(const std::string& address, const std::optional<std::string>& ca,
                                       const std::optional<std::string>& key) {
  if (!ca) {
    return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  }
  std::ifstream file(*ca);
  std::stringstream pem;
  if (!file || !(pem << file.rdbuf())) {
    throw std::runtime_error(*ca + " cannot be read");
  }
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = pem.str();
  auto credentials = grpc::SslCredentials(options);
  if (key) {
    credentials = grpc::CompositeChannelCredentials(credentials, grpc::AccessTokenCredentials(*key));
  }
  return grpc::CreateChannel(address, credentials);
}

std::string StreamText(text::TextService::Stub& stub) {
  text::GenerateStreamRequest message;
  auto& request = *message.mutable_request();
  request.set_prompt("And the king said");
  request.mutable_sampling()->set_seed(3);
  request.mutable_stopping()->set_max_new_tokens(32);
  Call call;
  auto stream = stub.GenerateStream(&call, message);
  std::cout << request.prompt();
  text::GenerateStreamResponse piece;
  while (stream->Read(&piece)) {
    std::cout << piece.text() << std::flush;
  }
  std::cout << '\n';
  Check(stream->Finish());
  return std::to_string(piece.usage().completion_tokens()) + " tokens streamed";
}

std::string CancelText(text::TextService::Stub& stub) {
  text::GenerateStreamRequest message;
  message.mutable_request()->set_prompt("And");
  message.mutable_request()->mutable_stopping()->set_max_new_tokens(200);
  message.mutable_request()->mutable_stopping()->set_ignore_eos(true);
  Call call;
  auto stream = stub.GenerateStream(&call, message);
  text::GenerateStreamResponse piece;
  for (int pieces = 0; stream->Read(&piece);) {
    if (++pieces == 8) {
      // Leaving the loop is not enough: the server generates until the call is cancelled or its deadline passes.
      call.TryCancel();
    }
  }
  const auto status = stream->Finish();
  if (status.ok()) {
    throw std::runtime_error("a cancelled stream went on to its end");
  }
  if (status.error_code() != grpc::StatusCode::CANCELLED) {
    Check(status);
  }
  std::cout << "cancelled a stream after 8 pieces\n";
  return "1 stream cancelled";
}

std::string DrawLetters(image::ImageService::Stub& stub) {
  image::GenerateRequest request;
  request.set_count(8);
  request.mutable_classes()->add_names("A");
  request.mutable_classes()->add_names("B");
  request.set_seed(1);
  request.mutable_grid()->set_columns(4);
  Call call;
  image::GenerateResponse answer;
  Check(stub.Generate(&call, request, &answer));
  if (answer.images_size() != 1) {
    throw std::runtime_error(std::to_string(answer.images_size()) + " pictures in place of one grid");
  }
  const auto& picture = answer.images(0);
  std::ofstream file("letters.png", std::ios::binary);
  if (!(file << picture.data() << std::flush)) {
    throw std::runtime_error("letters.png cannot be written");
  }
  std::cout << "wrote letters.png, " << picture.width() << " x " << picture.height() << " pixels\n";
  return "letters.png of " + std::to_string(picture.data().size()) + " bytes";
}

std::string ScoreRows(anomaly::AnomalyService::Stub& stub) {
  const std::string model = "vae-breast-cancer";
  anomaly::SampleRequest request;
  request.set_model(model);
  request.set_count(4);
  request.set_seed(1);
  anomaly::SampleResponse drawn;
  {
    Call call;
    Check(stub.Sample(&call, request, &drawn));
  }
  std::vector<anomaly::Values> rows(drawn.samples().begin(), drawn.samples().end());
  anomaly::Values far = rows.at(0);
  for (auto& value : *far.mutable_values()) {
    value *= 10;
  }
  rows.push_back(far);

  Call call;
  auto stream = stub.ScoreStream(&call);
  // Rows go out while scores come in: a stream that is only written to fills up and stands still.
  std::thread writer([&] {
    for (std::size_t index = 0; index < rows.size(); ++index) {
      anomaly::ScoreStreamRequest message;
      if (index == 0) {
        // The first message settles the model for all.
        message.set_model(model);
      }
      *message.mutable_sample()->mutable_values() = rows[index];
      if (!stream->Write(message)) {
        return;
      }
    }
    stream->WritesDone();
  });
  int scored = 0;
  int over = 0;
  anomaly::ScoreStreamResponse answer;
  while (stream->Read(&answer)) {
    const auto& score = answer.score();
    std::cout << "row " << answer.index() << ": score " << Format("%.4f", score.score()) << ", threshold "
              << Format("%.4f", score.threshold()) << (score.is_anomaly() ? ", an anomaly" : "") << '\n';
    ++scored;
    over += score.is_anomaly();
  }
  writer.join();
  Check(stream->Finish());
  return std::to_string(scored) + " rows scored, " + std::to_string(over) + " over the threshold";
}

std::string Evaluate(evaluation::EvaluationService::Stub& stub) {
  evaluation::CreateEvaluationRequest request;
  request.mutable_anomaly()->set_model("vae-digits");
  request.set_bootstrap_resamples(100);
  evaluation::CreateEvaluationResponse created;
  {
    Call call;
    Check(stub.CreateEvaluation(&call, request, &created));
  }
  auto job = created.evaluation();
  evaluation::WatchEvaluationRequest watched;
  watched.set_id(job.id());
  Call call;
  auto states = stub.WatchEvaluation(&call, watched);
  evaluation::WatchEvaluationResponse state;
  while (states->Read(&state)) {
    job = state.evaluation();
    std::cout << evaluation::EvaluationState_Name(job.state()) << ' ' << job.stage() << ' ' << job.progress_done() << '/'
              << job.progress_total() << '\n';
  }
  Check(states->Finish());
  if (job.state() != evaluation::EVALUATION_STATE_SUCCEEDED || job.metrics().empty()) {
    throw std::runtime_error("the evaluation did not succeed: " + job.error());
  }
  const auto& metric = job.metrics(0);
  std::cout << metric.name() << Format(" %.4f", metric.value()) << Format(" [%.4f", metric.interval().lower())
            << Format(", %.4f], n = ", metric.interval().upper()) << metric.sample_size() << '\n';
  return metric.name() + Format(" %.4f", metric.value());
}

std::string ReadRefusal(image::ImageService::Stub& stub) {
  image::GenerateRequest request;
  request.set_count(5000);
  request.set_truncation_psi(2);
  Call call;
  image::GenerateResponse answer;
  const auto status = stub.Generate(&call, request, &answer);
  if (status.error_code() != grpc::StatusCode::INVALID_ARGUMENT) {
    Check(status);
    throw std::runtime_error("5,000 images with a truncation of 2 were not refused");
  }
  google::rpc::Status details;
  Check(grpc::ExtractErrorDetails(status, &details));
  std::string reason, fields;
  for (const auto& detail : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad;
    if (detail.UnpackTo(&info)) {
      reason = info.reason();
    } else if (detail.UnpackTo(&bad)) {
      for (const auto& violation : bad.field_violations()) {
        std::cout << violation.field() << ": " << violation.description() << '\n';
        fields += (fields.empty() ? "" : ", ") + violation.field();
      }
    }
  }
  return "refused with " + reason + ": " + fields;
}

int Run(const std::string& address, const std::optional<std::string>& ca, const std::optional<std::string>& key) {
  const auto channel = Connect(address, ca, key);
  const auto texts = text::TextService::NewStub(channel);
  const auto images = image::ImageService::NewStub(channel);
  const auto anomalies = anomaly::AnomalyService::NewStub(channel);
  const auto evaluations = evaluation::EvaluationService::NewStub(channel);
  std::string done = StreamText(*texts);
  done += ", " + CancelText(*texts);
  done += ", " + DrawLetters(*images);
  done += ", " + ScoreRows(*anomalies);
  done += ", " + Evaluate(*evaluations);
  done += ", " + ReadRefusal(*images);
  std::cout << "ok: " << done << std::endl;
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  std::optional<std::string> address, ca, key;
  bool usable = true;
  for (int index = 1; index < count; ++index) {
    const std::string argument = arguments[index];
    if ((argument == "--tls" || argument == "--key") && index + 1 < count) {
      (argument == "--tls" ? ca : key) = arguments[++index];
    } else if (!address && argument.rfind("--", 0) != 0) {
      address = argument;
    } else {
      usable = false;
    }
  }
  // Whoever reads a key on the way can use it.
  if (!usable || !address || (key && !ca)) {
    std::cerr << "usage: client ADDRESS [--tls CA] [--key KEY]; --key needs --tls\n";
    return 64;
  }
  try {
    return Run(*address, ca, key);
  } catch (const std::exception& fault) {
    std::cerr << "failed: " << fault.what() << '\n';
    return 1;
  }
}
