/*
 * peer-asio: the echo server on Boost.Asio.
 *
 * One thread, no locks in the scheduler (the UNSAFE hint). A connection waits for readability
 * (async_wait), then reads and writes without blocking through one buffer that everybody shares: so
 * no read is tried in vain, as async_read_some would before each wait. What the kernel does not take
 * is copied and written by async_write before the next wait.
 */
#include "bench/peers/peer.h"

#include <boost/asio.hpp>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <unistd.h>
#include <unordered_set>
#include <vector>

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace
{

peer_options options;
uint8_t shared[65536];

class conn;
std::unordered_set<conn *> conns;

class conn : public std::enable_shared_from_this<conn>
{
      public:
	explicit conn(tcp::socket &&accepted) : socket(std::move(accepted))
	{
		conns.insert(this);
	}

	~conn()
	{
		conns.erase(this);
	}

	void wait()
	{
		socket.async_wait(tcp::socket::wait_read,
			[self = shared_from_this()](const error_code &error) {
				if (!error)
					self->serve();
			});
	}

	void close()
	{
		error_code ignored; /* the socket is gone either way */

		if (options.close_abort)
			peer_linger_off(socket.native_handle());
		socket.close(ignored);
	}

      private:
	void serve()
	{
		error_code error;
		size_t got = socket.read_some(asio::buffer(shared), error);

		if (error == asio::error::would_block || error == asio::error::try_again) {
			wait();
			return;
		}
		if (error)
			return; /* the last reference goes, and the socket with it */
		send(got);
	}

	void send(size_t bytes)
	{
		error_code error;
		size_t sent = socket.write_some(asio::buffer(shared, bytes), error);

		if (error == asio::error::would_block || error == asio::error::try_again)
			sent = 0;
		else if (error)
			return;
		if (sent == bytes) {
			wait();
			return;
		}
		late.assign(shared + sent, shared + bytes);
		asio::async_write(socket, asio::buffer(late),
			[self = shared_from_this()](const error_code &failed, size_t) {
				self->late.clear();
				self->late.shrink_to_fit();
				if (!failed)
					self->wait();
			});
	}

	tcp::socket socket;
	std::vector<uint8_t> late; /* what the kernel did not take */
};

void accept_next(tcp::acceptor &acceptor)
{
	acceptor.async_accept([&acceptor](const error_code &error, tcp::socket socket) {
		error_code failed;

		if (!error) {
			socket.non_blocking(true, failed);
			if (!failed)
				std::make_shared<conn>(std::move(socket))->wait();
		}
		if (error != asio::error::operation_aborted)
			accept_next(acceptor);
	});
}

void close_all(asio::io_context &context)
{
	uint64_t begin = peer_cpu_ns(), count = conns.size();

	for (conn *one : conns)
		one->close();
	/* Their waits end with operation_aborted, which frees them. */
	asio::post(context, [begin, count] { peer_closed_print(count, peer_cpu_ns() - begin); });
}

void signal_next(asio::io_context &context, asio::posix::stream_descriptor &signals)
{
	signals.async_wait(asio::posix::stream_descriptor::wait_read,
		[&context, &signals](const error_code &error) {
			int number;

			if (error)
				return;
			while ((number = peer_signal_next(signals.native_handle())) != 0) {
				if (number == options.close_signal)
					close_all(context);
				else
					context.stop();
			}
			signal_next(context, signals);
		});
}

int serve(int listener, int signals)
{
	asio::io_context context(BOOST_ASIO_CONCURRENCY_HINT_UNSAFE);
	tcp::acceptor acceptor(context, tcp::v4(), listener);
	asio::posix::stream_descriptor watch(context, signals);

	if (peer_ready(&options) < 0)
		return PEER_EXIT_FAILURE;
	accept_next(acceptor);
	signal_next(context, watch);
	context.run();
	return PEER_EXIT_OK;
}

} // namespace

int main(int argc, char **argv)
{
	const peer_abilities abilities = {true, false, false, true};
	int status = peer_options_parse(&options, "asio", &abilities, argc, argv);
	int signals, listener;

	if (status >= 0)
		return status;
	signals = peer_signals(&options);
	listener = peer_listen(&options);
	if (signals < 0 || listener < 0)
		return PEER_EXIT_FAILURE;
	try {
		return serve(listener, signals);
	} catch (const std::exception &failure) {
		peer_failure(&options, "cannot run", failure.what());
		return PEER_EXIT_FAILURE;
	}
}
