// The C++ library (callback API) as an echo server and its client, with the messages of proto/bittensor.proto.
//
//   wire_peer server
//   wire_peer client ADDRESS BYTES OUTSTANDING SECONDS
//
// compare_wire.py builds it.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bittensor.grpc.pb.h"

namespace {

double Now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Fill(TensorMessage *message, const std::string &payload)
{
    message->set_version("0.0.0");
    message->set_neuron_key("neuron");
    message->set_synapse_key("echo");
    Tensor *tensor = message->add_tensors();
    tensor->set_version("0.0.0");
    tensor->set_buffer(payload);
    tensor->add_shape(1);
    tensor->add_shape(1);
    tensor->add_shape(static_cast<int64_t>(payload.size() / 4));
    tensor->set_dtype(FLOAT32);
}

class Service : public Bittensor::CallbackService {
    grpc::ServerUnaryReactor *Forward(grpc::CallbackServerContext *context, const TensorMessage *request,
                                      TensorMessage *reply) override
    {
        Fill(reply, request->tensors(0).buffer());
        auto *reactor = context->DefaultReactor();
        reactor->Finish(grpc::Status::OK);
        return reactor;
    }
};

int Serve()
{
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &wanted, nullptr); // before gRPC starts threads, which inherit it
    Service service;
    grpc::ServerBuilder builder;
    int port = 0, number;
    builder.SetMaxReceiveMessageSize(-1);
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service);
    auto server = builder.BuildAndStart();
    printf("{\"address\": \"127.0.0.1:%d\"}\n", port);
    fflush(stdout);
    sigwait(&wanted, &number);
    server->Shutdown();
    return 0;
}

struct Call {
    std::unique_ptr<grpc::ClientContext> context;
    TensorMessage request, reply;
    double sent;
};

class Client {
public:
    Client(const std::string &address, size_t size, int outstanding, double seconds)
        : payload_(size, 0), live_(outstanding), calls_(outstanding)
    {
        grpc::ChannelArguments arguments;
        arguments.SetMaxReceiveMessageSize(-1);
        stub_ = Bittensor::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
        double now = Now();
        warm_ = now + seconds / 5;
        end_ = now + seconds * 6 / 5;
        first_ = last_ = warm_;
    }

    int Run()
    {
        for (Call &call : calls_)
            Send(&call);
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return live_ == 0; });
        std::sort(latencies_.begin(), latencies_.end());
        size_t calls = latencies_.size();
        double seconds = last_ - first_, rate = seconds > 0 ? static_cast<double>(calls) / seconds : 0;
        printf("{\"calls\": %zu, \"calls_per_second\": %.3f, \"megabytes_per_second\": %.3f, \"p50_us\": %.1f, "
               "\"p99_us\": %.1f}\n",
               calls, rate, 1e-6 * rate * static_cast<double>(payload_.size()), calls ? 1e6 * latencies_[calls / 2] : 0,
               calls ? 1e6 * latencies_[calls * 99 / 100] : 0);
        return bad_ ? 1 : 0;
    }

private:
    void Send(Call *call)
    {
        call->context = std::make_unique<grpc::ClientContext>();
        call->request.Clear();
        call->reply.Clear();
        call->sent = Now();
        Fill(&call->request, payload_);
        stub_->async()->Forward(call->context.get(), &call->request, &call->reply,
                                [this, call](grpc::Status status) { Answered(call, status); });
    }

    void Answered(Call *call, const grpc::Status &status)
    {
        double now = Now();
        bool over = now >= end_;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            bool right = status.ok() && call->reply.tensors(0).buffer().size() == payload_.size();
            if (!right) {
                bad_++;
            } else if (now < warm_) {
                first_ = now;
            } else if (!over) {
                latencies_.push_back(now - call->sent);
                last_ = now;
            }
            if (over) {
                live_--;
                changed_.notify_one();
            }
        }
        if (!over) Send(call);
    }

    std::unique_ptr<Bittensor::Stub> stub_;
    const std::string payload_;
    std::mutex mutex_; // guards what follows
    std::condition_variable changed_;
    std::vector<double> latencies_;
    double warm_, end_, first_, last_;
    int live_, bad_ = 0;
    std::vector<Call> calls_;
};

} // namespace

int main(int count, char **words)
{
    if (count == 2 && std::string(words[1]) == "server") return Serve();
    if (count != 6 || std::string(words[1]) != "client") return 2;
    Client client(words[2], std::stoul(words[3]), std::stoi(words[4]), std::stod(words[5]));
    return client.Run();
}
