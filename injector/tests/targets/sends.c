/*
 * sends: makes exactly COUNT sends of SIZE bytes over one socket by one syscall.
 *
 *   sends FAMILY SYSCALL COUNT SIZE [options]
 *
 *   FAMILY   tcp4 tcp6 udp4 udp6 unix_stream unix_dgram unix_seqpacket
 *   SYSCALL  write writev send sendto sendmsg sendmmsg sendfile splice
 *            io_uring        one IORING_OP_SEND (unconnected: SENDMSG) at a time
 *            io_uring_async  the same with IOSQE_ASYNC: an io worker thread sends
 *   COUNT    sends (messages, not calls, for sendmmsg)
 *   SIZE     bytes of each; 0 is allowed for empty datagrams
 *   --nonblock          the sending socket is O_NONBLOCK (EAGAIN counts as failed)
 *   --unconnected       datagrams with an address in each call
 *   --batch N           sendmmsg: N messages in each call (default 1)
 *   --gap-us N          sleep N µs between calls
 *   --start-on-stdin    print "ready PID PORT", wait for a line on stdin, then send
 *   --times             add "times_ns", the wall time of each call, to the output
 *   --max-seconds N     SIGALRM ends the program after N s (default 120)
 *
 * All sends come from the main thread. The receiver is another process, named
 * "receiver", which only reads. PORT is the receiver's (0 for unix sockets). For
 * splice, a pipe is filled by write(2) outside the measured time.
 *
 * One call is not always one kernel send or one message: kernels before 6.5 pass sendfile
 * and splice on page by page, so more than 4096 bytes make several datagrams there (not
 * on udp4, which corks them); later ones pass on 16 pages at a time. io_uring tries first
 * without blocking, and a second time if the buffer was full.
 *
 * Output: one line of JSON. ok + failed = count; "short" are ok sends that took
 * fewer bytes than SIZE; in "errnos", LOST stands for a message that made sendmmsg
 * stop in mid-batch (the kernel does not say why). Exit 0; 1 on an error of the
 * program itself; 2 for bad arguments; 77 for what this kernel does not support.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNSUPPORTED 77
#define ERRNO_MAX 4096
#define LOST 0 /* slot of the errno histogram for failures without an errno */

enum call {
	CALL_WRITE,
	CALL_WRITEV,
	CALL_SEND,
	CALL_SENDTO,
	CALL_SENDMSG,
	CALL_SENDMMSG,
	CALL_SENDFILE,
	CALL_SPLICE,
	CALL_IO_URING,
	CALL_IO_URING_ASYNC,
	CALLS
};

static const char *const call_names[CALLS] = {
	"write",    "writev",   "send",   "sendto",   "sendmsg",
	"sendmmsg", "sendfile", "splice", "io_uring", "io_uring_async",
};

static const struct family {
	const char *name;
	int domain, type;
} families[] = {
	{ "tcp4", AF_INET, SOCK_STREAM },        { "tcp6", AF_INET6, SOCK_STREAM },
	{ "udp4", AF_INET, SOCK_DGRAM },         { "udp6", AF_INET6, SOCK_DGRAM },
	{ "unix_stream", AF_UNIX, SOCK_STREAM }, { "unix_dgram", AF_UNIX, SOCK_DGRAM },
	{ "unix_seqpacket", AF_UNIX, SOCK_SEQPACKET },
};

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

/* What the receiver counts, in memory shared with the sender. */
struct received {
	uint64_t bytes, messages;
};

struct ring {
	int fd;
	unsigned *sq_head, *sq_tail, *sq_mask, *sq_array;
	unsigned *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

struct sender {
	const struct family *family;
	enum call call;
	size_t size;
	unsigned batch;
	bool connected;
	int sock;
	union address to;
	socklen_t to_len;
	char *data;
	struct iovec iov, halves[2];
	struct msghdr msg;
	struct mmsghdr *mmsgs;
	int file;    /* sendfile */
	int pipe[2]; /* splice */
	struct ring ring;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void usage(const char *why)
{
	fprintf(stderr,
		"sends: %s\nusage: sends FAMILY SYSCALL COUNT SIZE [--nonblock] [--unconnected] "
		"[--batch N] [--gap-us N] [--start-on-stdin] [--times] [--max-seconds N]\n",
		why);
	exit(2);
}

static void unsupported(const char *what, int error)
{
	fprintf(stderr, "sends: not supported here: %s%s%s\n", what, error ? ": " : "",
		error ? strerror(error) : "");
	exit(UNSUPPORTED);
}

static uint64_t number(const char *text, uint64_t max, const char *name)
{
	char *end;

	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno || *text < '0' || *text > '9' || *end || value > max)
		usage(name);
	return value;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t))
		die("clock_gettime");
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_us(uint64_t us)
{
	struct timespec t = { .tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000 };

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

static unsigned port_of(const union address *a)
{
	if (a->any.sa_family == AF_INET)
		return ntohs(a->in.sin_port);
	if (a->any.sa_family == AF_INET6)
		return ntohs(a->in6.sin6_port);
	return 0;
}

/* A socket on a free loopback port, or on an abstract name of the kernel's choice. */
static int bound_socket(const struct family *f, union address *name, socklen_t *len)
{
	int fd = socket(f->domain, f->type | SOCK_CLOEXEC, 0);

	if (fd < 0 && errno == EAFNOSUPPORT)
		unsupported(f->name, errno);
	if (fd < 0)
		die("socket");
	memset(name, 0, sizeof(*name));
	name->any.sa_family = (sa_family_t)f->domain;
	*len = sizeof(sa_family_t);
	if (f->domain == AF_INET) {
		name->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		*len = sizeof(name->in);
	} else if (f->domain == AF_INET6) {
		name->in6.sin6_addr = in6addr_loopback;
		*len = sizeof(name->in6);
	}
	if (bind(fd, &name->any, *len)) {
		if (errno == EADDRNOTAVAIL)
			unsupported(f->name, errno);
		die("bind");
	}
	*len = sizeof(*name);
	if (getsockname(fd, &name->any, len))
		die("getsockname");
	return fd;
}

/* The receiving process. Ends when the connection ends, or for datagrams when `control` is
 * closed and all is read; both also happen if the sender is killed. Never sends. */
static _Noreturn void receive(const struct family *f, int fd, int control, unsigned seconds,
			      struct received *got)
{
	static char buffer[1 << 20];
	const bool datagrams = f->type == SOCK_DGRAM;

	prctl(PR_SET_NAME, "receiver");
	alarm(seconds);
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	if (!datagrams) {
		struct pollfd wait[2] = { { fd, POLLIN, 0 }, { control, 0, 0 } };
		int listener = fd;

		while (poll(wait, 2, -1) < 0)
			if (errno != EINTR)
				die("receiver: poll");
		if (!(wait[0].revents & POLLIN))
			_exit(0);
		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			die("receiver: accept");
		close(listener);
	}
	for (;;) {
		struct pollfd wait[2] = { { fd, POLLIN, 0 }, { control, 0, 0 } };
		ssize_t n;

		if (poll(wait, datagrams ? 2 : 1, -1) < 0 && errno != EINTR)
			die("receiver: poll");
		while ((n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) >= 0) {
			if (n == 0 && !datagrams)
				_exit(0);
			got->bytes += (uint64_t)n;
			got->messages += f->type != SOCK_STREAM;
		}
		if (errno == ECONNRESET && !datagrams)
			_exit(0);
		if (errno != EAGAIN && errno != EINTR)
			die("receiver: recv");
		if (wait[1].revents)
			_exit(0);
	}
}

static void ring_open(struct ring *r)
{
	struct io_uring_params p = { 0 };
	unsigned char *rings;
	size_t sq, cq;

	r->fd = (int)syscall(SYS_io_uring_setup, 4, &p);
	if (r->fd < 0 && (errno == ENOSYS || errno == EPERM))
		unsupported("io_uring_setup", errno);
	if (r->fd < 0)
		die("io_uring_setup");
	if (!(p.features & IORING_FEAT_SINGLE_MMAP))
		unsupported("io_uring without a single mmap", 0);
	sq = p.sq_off.array + p.sq_entries * sizeof(unsigned);
	cq = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	rings = mmap(NULL, sq > cq ? sq : cq, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
		     IORING_OFF_SQ_RING);
	if (rings == MAP_FAILED)
		die("mmap of the ring");
	r->sqes = mmap(NULL, p.sq_entries * sizeof(*r->sqes), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES);
	if (r->sqes == MAP_FAILED)
		die("mmap of the sqes");
	r->sq_head = (unsigned *)(rings + p.sq_off.head);
	r->sq_tail = (unsigned *)(rings + p.sq_off.tail);
	r->sq_mask = (unsigned *)(rings + p.sq_off.ring_mask);
	r->sq_array = (unsigned *)(rings + p.sq_off.array);
	r->cq_head = (unsigned *)(rings + p.cq_off.head);
	r->cq_tail = (unsigned *)(rings + p.cq_off.tail);
	r->cq_mask = (unsigned *)(rings + p.cq_off.ring_mask);
	r->cqes = (struct io_uring_cqe *)(rings + p.cq_off.cqes);
}

/* Submits one send and waits for its completion; errno and -1 as a syscall would. */
static ssize_t ring_send(struct sender *s)
{
	struct ring *r = &s->ring;
	unsigned tail = *r->sq_tail, at = tail & *r->sq_mask, head = *r->cq_head;
	struct io_uring_sqe *sqe = &r->sqes[at];
	int result;

	memset(sqe, 0, sizeof(*sqe));
	sqe->fd = s->sock;
	sqe->flags = s->call == CALL_IO_URING_ASYNC ? IOSQE_ASYNC : 0;
	if (s->connected) {
		sqe->opcode = IORING_OP_SEND;
		sqe->addr = (uintptr_t)s->data;
		sqe->len = (uint32_t)s->size;
	} else {
		sqe->opcode = IORING_OP_SENDMSG;
		sqe->addr = (uintptr_t)&s->msg;
		sqe->len = 1;
	}
	r->sq_array[at] = at;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) == head) {
		unsigned submit = tail + 1 - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);

		if (syscall(SYS_io_uring_enter, r->fd, submit, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 &&
		    errno != EINTR)
			die("io_uring_enter");
	}
	result = r->cqes[head & *r->cq_mask].res;
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
	if (result >= 0)
		return result;
	errno = -result;
	return -1;
}

static void prepare_sender(struct sender *s)
{
	s->data = malloc(s->size + 1);
	if (!s->data)
		die("malloc");
	memset(s->data, 'x', s->size);
	s->iov = (struct iovec){ s->data, s->size };
	s->halves[0] = (struct iovec){ s->data, s->size / 2 };
	s->halves[1] = (struct iovec){ s->data + s->size / 2, s->size - s->size / 2 };
	s->msg = (struct msghdr){ .msg_iov = &s->iov, .msg_iovlen = 1 };
	if (!s->connected) {
		s->msg.msg_name = &s->to;
		s->msg.msg_namelen = s->to_len;
	}
	if (s->call == CALL_SENDMMSG) {
		s->mmsgs = calloc(s->batch, sizeof(*s->mmsgs));
		if (!s->mmsgs)
			die("calloc");
		for (unsigned i = 0; i < s->batch; i++)
			s->mmsgs[i].msg_hdr = s->msg;
	} else if (s->call == CALL_SENDFILE) {
		s->file = memfd_create("sends", MFD_CLOEXEC);
		if (s->file < 0)
			die("memfd_create");
		for (size_t done = 0; done < s->size;) {
			ssize_t n = write(s->file, s->data + done, s->size - done);
			if (n < 0)
				die("write to the memfd");
			done += (size_t)n;
		}
	} else if (s->call == CALL_SPLICE) {
		if (pipe2(s->pipe, O_CLOEXEC))
			die("pipe2");
		if (s->size > 65536 && fcntl(s->pipe[1], F_SETPIPE_SZ, (int)s->size) < 0)
			die("F_SETPIPE_SZ");
	} else if (s->call == CALL_IO_URING || s->call == CALL_IO_URING_ASYNC) {
		ring_open(&s->ring);
	}
}

static void fill_pipe(struct sender *s)
{
	for (size_t done = 0; done < s->size;) {
		ssize_t n = write(s->pipe[1], s->data + done, s->size - done);
		if (n < 0 && errno != EINTR)
			die("write to the pipe");
		if (n > 0)
			done += (size_t)n;
	}
}

/* Takes out what a failed or short splice left in the pipe. */
static void empty_pipe(struct sender *s, size_t left)
{
	while (left) {
		ssize_t n = read(s->pipe[0], s->data, left);
		if (n < 0 && errno != EINTR)
			die("read from the pipe");
		if (n > 0)
			left -= (size_t)n;
	}
}

/* One call. sendmmsg returns messages, all others bytes. */
static ssize_t send_once(struct sender *s, unsigned messages)
{
	off_t start = 0;

	switch (s->call) {
	case CALL_WRITE:
		return write(s->sock, s->data, s->size);
	case CALL_WRITEV:
		return writev(s->sock, s->halves, 2);
	case CALL_SEND:
		return send(s->sock, s->data, s->size, 0);
	case CALL_SENDTO:
		return sendto(s->sock, s->data, s->size, 0, s->connected ? NULL : &s->to.any,
			      s->connected ? 0 : s->to_len);
	case CALL_SENDMSG:
		return sendmsg(s->sock, &s->msg, 0);
	case CALL_SENDMMSG:
		return sendmmsg(s->sock, s->mmsgs, messages, 0);
	case CALL_SENDFILE:
		return sendfile(s->sock, s->file, &start, s->size);
	case CALL_SPLICE:
		return splice(s->pipe[0], NULL, s->sock, NULL, s->size, 0);
	case CALL_IO_URING:
	case CALL_IO_URING_ASYNC:
		return ring_send(s);
	case CALLS:
		break;
	}
	abort();
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t percentile(const uint64_t *sorted, size_t n, unsigned percent)
{
	return n ? sorted[(n * percent + 99) / 100 - 1] : 0;
}

static void print_errnos(const uint64_t *errnos)
{
	const char *comma = "";

	printf("\"errnos\":{");
	for (int e = 0; e < ERRNO_MAX; e++) {
		const char *name = e == LOST ? "LOST" : strerrorname_np(e);

		if (!errnos[e])
			continue;
		if (name)
			printf("%s\"%s\":%" PRIu64, comma, name, errnos[e]);
		else
			printf("%s\"%d\":%" PRIu64, comma, e, errnos[e]);
		comma = ",";
	}
	printf("}");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "nonblock", no_argument, NULL, 'n' },
		{ "unconnected", no_argument, NULL, 'u' },
		{ "batch", required_argument, NULL, 'b' },
		{ "gap-us", required_argument, NULL, 'g' },
		{ "start-on-stdin", no_argument, NULL, 's' },
		{ "times", no_argument, NULL, 't' },
		{ "max-seconds", required_argument, NULL, 'm' },
		{ 0 },
	};
	static uint64_t errnos[ERRNO_MAX];
	struct sender s = { .batch = 1, .connected = true };
	bool nonblock = false, wait_for_start = false, print_times = false;
	unsigned max_seconds = 120;
	uint64_t gap_us = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'n':
			nonblock = true;
			break;
		case 'u':
			s.connected = false;
			break;
		case 'b':
			s.batch = (unsigned)number(optarg, 1024, "--batch is 1 to 1024");
			break;
		case 'g':
			gap_us = number(optarg, 1000000000, "--gap-us is a number");
			break;
		case 's':
			wait_for_start = true;
			break;
		case 't':
			print_times = true;
			break;
		case 'm':
			max_seconds = (unsigned)number(optarg, UINT_MAX, "--max-seconds is a number");
			break;
		default:
			usage("unknown option");
		}
	}
	if (argc - optind != 4)
		usage("four arguments are needed");
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		if (!strcmp(argv[optind], families[i].name))
			s.family = &families[i];
	while (s.call < CALLS && strcmp(argv[optind + 1], call_names[s.call]))
		s.call++;
	if (!s.family || s.call == CALLS)
		usage("unknown FAMILY or SYSCALL");

	const uint64_t count = number(argv[optind + 2], 100000000, "COUNT is a number");
	s.size = number(argv[optind + 3], 1 << 30, "SIZE is a number");
	bool with_message = s.call >= CALL_SENDTO && s.call != CALL_SENDFILE && s.call != CALL_SPLICE;
	if (s.batch < 1 || (s.batch > 1 && s.call != CALL_SENDMMSG))
		usage("--batch is for sendmmsg and is 1 to 1024");
	if (!s.connected && (s.family->type != SOCK_DGRAM || !with_message))
		unsupported("--unconnected needs datagrams and a call that takes an address", 0);
	if (!s.size && (s.family->type != SOCK_DGRAM || s.call == CALL_WRITEV ||
			s.call == CALL_SENDFILE || s.call == CALL_SPLICE))
		unsupported("an empty send needs datagrams and a call that passes it on", 0);

	alarm(max_seconds);
	signal(SIGPIPE, SIG_IGN);

	/* The receiver. */
	struct received *got = mmap(NULL, sizeof(*got), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (got == MAP_FAILED)
		die("mmap");
	int receiver = bound_socket(s.family, &s.to, &s.to_len);
	if (s.family->type != SOCK_DGRAM) {
		if (listen(receiver, 1))
			die("listen");
	} else {
		int queue = 64 << 20;
		if (setsockopt(receiver, SOL_SOCKET, SO_RCVBUFFORCE, &queue, sizeof(queue)) &&
		    setsockopt(receiver, SOL_SOCKET, SO_RCVBUF, &queue, sizeof(queue)))
			die("SO_RCVBUF");
	}
	union address from = { 0 };
	socklen_t from_len = sizeof(from);
	if (s.family->type == SOCK_DGRAM) {
		s.sock = bound_socket(s.family, &from, &from_len);
		/* Unix datagrams: a receiver connected back to its sender has no limit of 10
		 * queued messages. With the limit, io_uring retries a send that found the
		 * queue full with its data already consumed, and sends an empty datagram. */
		if (s.family->domain == AF_UNIX && connect(receiver, &from.any, from_len))
			die("connect back");
	}
	int control[2];
	if (pipe2(control, O_CLOEXEC))
		die("pipe2");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		close(control[1]);
		receive(s.family, receiver, control[0], max_seconds, got);
	}
	close(control[0]);
	close(receiver);

	/* The sender. */
	if (s.family->type != SOCK_DGRAM)
		s.sock = socket(s.family->domain, s.family->type | SOCK_CLOEXEC, 0);
	if (s.sock < 0)
		die("socket");
	if (s.connected && connect(s.sock, &s.to.any, s.to_len))
		die("connect");
	from_len = sizeof(from);
	if (getsockname(s.sock, &from.any, &from_len))
		die("getsockname");
	int on = 1;
	if (s.family->type == SOCK_STREAM && s.family->domain != AF_UNIX &&
	    setsockopt(s.sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		die("TCP_NODELAY");
	/* Room enough that sends seldom block (or, by io_uring, come back short). */
	int room = 4 << 20;
	if (s.family->domain == AF_UNIX &&
	    setsockopt(s.sock, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) &&
	    setsockopt(s.sock, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)))
		die("SO_SNDBUF");
	if (nonblock && fcntl(s.sock, F_SETFL, O_NONBLOCK))
		die("O_NONBLOCK");
	prepare_sender(&s);
	uint64_t *times = calloc(count + 1, sizeof(*times));
	if (!times)
		die("calloc");

	if (wait_for_start) {
		char line[64];

		printf("ready %d %u\n", (int)getpid(), port_of(&s.to));
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin)) {
			fprintf(stderr, "sends: stdin ended before a line came\n");
			return 1;
		}
	}

	uint64_t done = 0, calls = 0, ok = 0, shorts = 0, failed = 0, bytes = 0, sum = 0;
	uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID), wall = clock_ns(CLOCK_MONOTONIC);
	while (done < count) {
		unsigned messages = count - done < s.batch ? (unsigned)(count - done) : s.batch;

		if (gap_us && calls)
			sleep_us(gap_us);
		if (s.call == CALL_SPLICE)
			fill_pipe(&s);

		uint64_t start = clock_ns(CLOCK_MONOTONIC);
		ssize_t result = send_once(&s, messages);
		int error = errno;
		times[calls] = clock_ns(CLOCK_MONOTONIC) - start;
		sum += times[calls++];

		if (result < 0) {
			if (!ok && !failed && s.call >= CALL_SENDFILE &&
			    (error == EOPNOTSUPP || error == EINVAL || error == ENOSYS))
				unsupported(call_names[s.call], error);
			errnos[error < ERRNO_MAX ? error : LOST]++;
			failed++;
			done++;
		} else if (s.call == CALL_SENDMMSG) {
			bool cut = false;

			for (ssize_t i = 0; i < result; i++) {
				bytes += s.mmsgs[i].msg_len;
				cut = s.mmsgs[i].msg_len < s.size;
				shorts += cut;
			}
			ok += (uint64_t)result;
			done += (uint64_t)result;
			/* After a short message the kernel stops without trying the next. */
			if (result < (ssize_t)messages && !cut) {
				errnos[LOST]++;
				failed++;
				done++;
			}
		} else {
			bytes += (uint64_t)result;
			shorts += (size_t)result < s.size;
			ok++;
			done++;
		}
		if (s.call == CALL_SPLICE)
			empty_pipe(&s, s.size - (result > 0 ? (size_t)result : 0));
	}
	wall = clock_ns(CLOCK_MONOTONIC) - wall;
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;

	close(s.sock);
	close(control[1]);
	int status;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "sends: the receiver failed (status %#x)\n", (unsigned)status);
		return 1;
	}

	uint64_t *sorted = malloc((calls + 1) * sizeof(*sorted));
	if (!sorted)
		die("malloc");
	memcpy(sorted, times, calls * sizeof(*sorted));
	qsort(sorted, calls, sizeof(*sorted), ascending);
	printf("{\"program\":\"sends\",\"pid\":%d,\"receiver_pid\":%d,\"family\":\"%s\","
	       "\"syscall\":\"%s\",\"nonblock\":%s,\"connected\":%s,\"count\":%" PRIu64
	       ",\"size\":%zu,\"calls\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"ok\":%" PRIu64
	       ",\"short\":%" PRIu64 ",\"failed\":%" PRIu64 ",",
	       (int)getpid(), (int)child, s.family->name, call_names[s.call],
	       nonblock ? "true" : "false", s.connected ? "true" : "false", count, s.size, calls, bytes,
	       ok, shorts, failed);
	print_errnos(errnos);
	printf(",\"local_port\":%u,\"peer_port\":%u,\"p50_ns\":%" PRIu64 ",\"p90_ns\":%" PRIu64
	       ",\"p99_ns\":%" PRIu64 ",\"max_ns\":%" PRIu64 ",\"sum_ns\":%" PRIu64 ",\"wall_ns\":%" PRIu64
	       ",\"cpu_ns\":%" PRIu64 ",\"received_bytes\":%" PRIu64 ",\"received_messages\":%" PRIu64,
	       port_of(&from), port_of(&s.to), percentile(sorted, calls, 50),
	       percentile(sorted, calls, 90), percentile(sorted, calls, 99),
	       calls ? sorted[calls - 1] : 0, sum, wall, cpu, got->bytes, got->messages);
	if (print_times) {
		printf(",\"times_ns\":[");
		for (uint64_t i = 0; i < calls; i++)
			printf("%s%" PRIu64, i ? "," : "", times[i]);
		printf("]");
	}
	printf("}\n");
	if (fflush(stdout))
		die("stdout");
	return 0;
}
