// A client of Quintet in Go: streams text, draws letters, scores rows, runs an evaluation, reads what an error says.
//
//	client 127.0.0.1:50051 [--tls CA] [--key KEY]
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/oauth"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	anomalyv1 "quintet/anomaly/v1"
	evaluationv1 "quintet/evaluation/v1"
	imagev1 "quintet/image/v1"
	textv1 "quintet/text/v1"
)

// How long a call may take. The server sets no limit of its own: clients should.
const deadline = 30 * time.Second

// connect gives a connection: plain, or over TLS with the key in the metadata of each call.
func connect(address, ca, key string) (*grpc.ClientConn, error) {
	// Newer versions of grpc-go have insecure.NewCredentials() and grpc.NewClient for what these two do.
	if ca == "" {
		return grpc.Dial(address, grpc.WithInsecure())
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots}))}
	if key != "" {
		token := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: key})
		options = append(options, grpc.WithPerRPCCredentials(oauth.TokenSource{TokenSource: token}))
	}
	return grpc.Dial(address, options...)
}

func streamText(ctx context.Context, text textv1.TextServiceClient) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	request := &textv1.GenerateRequest{
		Prompt:   "And the king said",
		Sampling: &textv1.Sampling{Seed: proto.Uint64(3)},
		Stopping: &textv1.Stopping{MaxNewTokens: proto.Uint32(32)},
	}
	stream, err := text.GenerateStream(ctx, &textv1.GenerateStreamRequest{Request: request})
	if err != nil {
		return "", err
	}
	fmt.Print(request.Prompt)
	var tokens uint32
	for {
		piece, err := stream.Recv()
		if err == io.EOF {
			fmt.Println()
			return fmt.Sprintf("%d tokens streamed", tokens), nil
		}
		if err != nil {
			return "", err
		}
		fmt.Print(piece.Text)
		tokens = piece.GetUsage().GetCompletionTokens()
	}
}

func cancelText(ctx context.Context, text textv1.TextServiceClient) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	request := &textv1.GenerateRequest{
		Prompt:   "And",
		Stopping: &textv1.Stopping{MaxNewTokens: proto.Uint32(200), IgnoreEos: true},
	}
	stream, err := text.GenerateStream(ctx, &textv1.GenerateStreamRequest{Request: request})
	if err != nil {
		return "", err
	}
	for pieces := 1; ; pieces++ {
		_, err := stream.Recv()
		if pieces > 8 && status.Code(err) == codes.Canceled {
			fmt.Println("cancelled a stream after 8 pieces")
			return "1 stream cancelled", nil
		}
		if err == io.EOF {
			return "", errors.New("a cancelled stream went on to its end")
		}
		if err != nil {
			return "", err
		}
		if pieces == 8 {
			// Leaving the loop is not enough: the server generates until the context is cancelled or its deadline passes.
			cancel()
		}
	}
}

func drawLetters(ctx context.Context, images imagev1.ImageServiceClient) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	answer, err := images.Generate(ctx, &imagev1.GenerateRequest{
		Count:   proto.Uint32(8),
		Classes: &imagev1.ClassSelection{Names: []string{"A", "B"}},
		Seed:    proto.Uint64(1),
		Grid:    &imagev1.Grid{Columns: 4},
	})
	if err != nil {
		return "", err
	}
	if len(answer.Images) != 1 {
		return "", fmt.Errorf("%d pictures in place of one grid", len(answer.Images))
	}
	picture := answer.Images[0]
	if err := os.WriteFile("letters.png", picture.Data, 0o644); err != nil {
		return "", err
	}
	fmt.Printf("wrote letters.png, %d x %d pixels\n", picture.Width, picture.Height)
	return fmt.Sprintf("letters.png of %d bytes", len(picture.Data)), nil
}

func scoreRows(ctx context.Context, anomaly anomalyv1.AnomalyServiceClient) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	const model = "vae-breast-cancer"
	drawn, err := anomaly.Sample(ctx, &anomalyv1.SampleRequest{Model: model, Count: proto.Uint32(4), Seed: proto.Uint64(1)})
	if err != nil {
		return "", err
	}
	rows := drawn.Samples
	far := &anomalyv1.Values{}
	for _, value := range rows[0].Values {
		far.Values = append(far.Values, 10*value)
	}
	rows = append(rows, far)

	stream, err := anomaly.ScoreStream(ctx)
	if err != nil {
		return "", err
	}
	// Rows go out while scores come in: a stream that is only written to fills up and stands still.
	go func() {
		for index, row := range rows {
			message := &anomalyv1.ScoreStreamRequest{Sample: &anomalyv1.SampleData{Data: &anomalyv1.SampleData_Values{Values: row}}}
			if index == 0 {
				// The first message settles the model for all.
				message.Model = model
			}
			if stream.Send(message) != nil {
				// Recv says why.
				return
			}
		}
		stream.CloseSend()
	}()
	scored, over := 0, 0
	for {
		answer, err := stream.Recv()
		if err == io.EOF {
			return fmt.Sprintf("%d rows scored, %d over the threshold", scored, over), nil
		}
		if err != nil {
			return "", err
		}
		verdict := ""
		if answer.Score.IsAnomaly {
			verdict = ", an anomaly"
			over++
		}
		fmt.Printf("row %d: score %.4f, threshold %.4f%s\n", answer.Index, answer.Score.Score, answer.Score.Threshold, verdict)
		scored++
	}
}

func evaluate(ctx context.Context, evaluations evaluationv1.EvaluationServiceClient) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	created, err := evaluations.CreateEvaluation(ctx, &evaluationv1.CreateEvaluationRequest{
		Evaluation:         &evaluationv1.CreateEvaluationRequest_Anomaly{Anomaly: &evaluationv1.AnomalyEvaluation{Model: "vae-digits"}},
		BootstrapResamples: proto.Uint32(100),
	})
	if err != nil {
		return "", err
	}
	job := created.Evaluation
	states, err := evaluations.WatchEvaluation(ctx, &evaluationv1.WatchEvaluationRequest{Id: job.Id})
	if err != nil {
		return "", err
	}
	for {
		state, err := states.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
		job = state.Evaluation
		fmt.Printf("%s %s %d/%d\n", job.State, job.Stage, job.ProgressDone, job.ProgressTotal)
	}
	if job.State != evaluationv1.EvaluationState_EVALUATION_STATE_SUCCEEDED {
		return "", fmt.Errorf("the evaluation did not succeed: %s", job.Error)
	}
	metric := job.Metrics[0]
	interval := metric.GetInterval()
	fmt.Printf("%s %.4f [%.4f, %.4f], n = %d\n", metric.Name, metric.Value, interval.GetLower(), interval.GetUpper(), metric.SampleSize)
	return fmt.Sprintf("%s %.4f", metric.Name, metric.Value), nil
}

func readRefusal(ctx context.Context, images imagev1.ImageServiceClient) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	_, err := images.Generate(ctx, &imagev1.GenerateRequest{Count: proto.Uint32(5000), TruncationPsi: proto.Float32(2)})
	if status.Code(err) != codes.InvalidArgument {
		return "", fmt.Errorf("5,000 images with a truncation of 2 were not refused as they should: %w", err)
	}
	reason, fields := "", []string{}
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.Reason
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				fmt.Printf("%s: %s\n", violation.Field, violation.Description)
				fields = append(fields, violation.Field)
			}
		}
	}
	return fmt.Sprintf("refused with %s: %s", reason, strings.Join(fields, ", ")), nil
}

func run(address, ca, key string) (string, error) {
	connection, err := connect(address, ca, key)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	text, images := textv1.NewTextServiceClient(connection), imagev1.NewImageServiceClient(connection)
	ctx := context.Background()
	steps := []func() (string, error){
		func() (string, error) { return streamText(ctx, text) },
		func() (string, error) { return cancelText(ctx, text) },
		func() (string, error) { return drawLetters(ctx, images) },
		func() (string, error) { return scoreRows(ctx, anomalyv1.NewAnomalyServiceClient(connection)) },
		func() (string, error) { return evaluate(ctx, evaluationv1.NewEvaluationServiceClient(connection)) },
		func() (string, error) { return readRefusal(ctx, images) },
	}
	var done []string
	for _, step := range steps {
		said, err := step()
		if err != nil {
			return "", err
		}
		done = append(done, said)
	}
	return strings.Join(done, ", "), nil
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: client ADDRESS [--tls CA] [--key KEY]; --key needs --tls")
	os.Exit(64)
}

func main() {
	var address, ca, key string
	for arguments := os.Args[1:]; len(arguments) > 0; arguments = arguments[1:] {
		switch argument := arguments[0]; {
		case (argument == "--tls" || argument == "--key") && len(arguments) > 1:
			if argument == "--tls" {
				ca = arguments[1]
			} else {
				key = arguments[1]
			}
			arguments = arguments[1:]
		case address == "" && !strings.HasPrefix(argument, "--"):
			address = argument
		default:
			usage()
		}
	}
	if address == "" || (key != "" && ca == "") {
		usage()
	}
	done, err := run(address, ca, key)
	if err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
		os.Exit(1)
	}
	fmt.Println("ok:", done)
}
