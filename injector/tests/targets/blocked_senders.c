/*
 * blocked_senders: N threads that all block in send() until they are released.
 *
 *   blocked_senders unix|tcp|socketpair N [options]
 *
 *   --size BYTES        bytes of each send, more than the buffers hold (default 163840)
 *   --start-on-stdin    print "ready PID PORT", wait for a line on stdin, then send
 *   --max-seconds N     SIGALRM ends the program after N s (default 120)
 *
 * Each thread has a connection of its own to a receiving process, named "receiver", and
 * makes exactly one send(), which fills the buffers and blocks. When every thread is
 * blocked (or has returned, with an error), prints "blocked PID COUNT" and waits for a
 * line on stdin; then the receiver drains and the sends return. PORT is the receiver's (0
 * for unix sockets).
 *
 * Output: one line of JSON. "returned_early" are the sends that returned before the
 * release; the times are those of the whole send() calls, "drain_ns" is from the release
 * to the last return.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ERRNO_MAX 4096
#define THREADS_MAX 4096
#define BUFFER (32 << 10)

enum kind { UNIX, TCP, SOCKETPAIR };

struct sender {
	pthread_t thread;
	int sock;
	_Atomic pid_t tid;
	atomic_bool returned;
	ssize_t result;
	int error;
	uint64_t ns;
};

static const char *data;
static size_t size = 160 << 10;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void usage(const char *why)
{
	fprintf(stderr,
		"blocked_senders: %s\nusage: blocked_senders unix|tcp|socketpair N [--size BYTES] "
		"[--start-on-stdin] [--max-seconds N]\n",
		why);
	exit(2);
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

static uint64_t now_ns(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t))
		die("clock_gettime");
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

static void wait_for_line(void)
{
	char line[64];

	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin)) {
		fprintf(stderr, "blocked_senders: stdin ended before a line came\n");
		exit(1);
	}
}

static void *send_and_block(void *arg)
{
	struct sender *s = arg;
	uint64_t start = now_ns();

	atomic_store(&s->tid, (pid_t)syscall(SYS_gettid));
	s->result = send(s->sock, data, size, 0);
	s->error = errno;
	s->ns = now_ns() - start;
	atomic_store(&s->returned, true);
	return NULL;
}

/* Is the thread asleep inside sendto (which is what send() calls)? */
static bool is_blocked(pid_t tid)
{
	char path[64], text[64] = "";
	FILE *file;
	int nr = -1;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int)tid);
	file = fopen(path, "re");
	if (file) {
		/* "running" while it runs */
		if (fscanf(file, "%d", &nr) != 1)
			nr = -1;
		fclose(file);
		return nr == SYS_sendto;
	}
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	file = fopen(path, "re");
	if (!file)
		return false; /* it has just ended */
	if (!fgets(text, sizeof(text), file))
		text[0] = 0;
	fclose(file);
	const char *state = strrchr(text, ')');
	return state && state[1] && (state[2] == 'S' || state[2] == 'D');
}

/* Waits until each thread was seen blocked twice in a row, or has returned. */
static unsigned wait_until_blocked(struct sender *senders, unsigned n)
{
	for (unsigned quiet = 0;;) {
		unsigned blocked = 0, returned = 0;

		for (unsigned i = 0; i < n; i++) {
			pid_t tid = atomic_load(&senders[i].tid);

			if (atomic_load(&senders[i].returned))
				returned++;
			else if (tid && is_blocked(tid))
				blocked++;
		}
		quiet = blocked + returned == n ? quiet + 1 : 0;
		if (quiet == 2)
			return blocked;
		sleep_ms(20);
	}
}

/* The receiving process. Accepts (if there is a listener), waits for the release, drains
 * until every stream has ended. Never sends. */
static _Noreturn void receive(int listener, int *socks, unsigned n, int release, unsigned seconds,
			      uint64_t *bytes)
{
	static char buffer[1 << 18];
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	char go;

	prctl(PR_SET_NAME, "receiver");
	alarm(seconds);
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	for (unsigned i = 0; listener >= 0 && i < n; i++) {
		struct pollfd wait[2] = { { listener, POLLIN, 0 }, { release, 0, 0 } };

		while (poll(wait, 2, -1) < 0)
			if (errno != EINTR)
				die("receiver: poll");
		if (!(wait[0].revents & POLLIN))
			_exit(0);
		socks[i] = accept(listener, NULL, NULL);
		if (socks[i] < 0)
			die("receiver: accept");
	}
	if (read(release, &go, 1) != 1)
		_exit(0);
	if (epoll < 0)
		die("receiver: epoll_create1");
	for (unsigned i = 0; i < n; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.fd = socks[i] };

		if (epoll_ctl(epoll, EPOLL_CTL_ADD, socks[i], &event))
			die("receiver: epoll_ctl");
	}
	for (unsigned open = n; open;) {
		struct epoll_event events[64];
		int ready = epoll_wait(epoll, events, 64, -1);

		if (ready < 0 && errno != EINTR)
			die("receiver: epoll_wait");
		for (int i = 0; i < ready; i++) {
			ssize_t got = recv(events[i].data.fd, buffer, sizeof(buffer), MSG_DONTWAIT);

			if (got < 0 && (errno == EAGAIN || errno == EINTR))
				continue;
			if (got > 0) {
				*bytes += (uint64_t)got;
				continue;
			}
			close(events[i].data.fd); /* the end, or the sender was killed */
			open--;
		}
	}
	_exit(0);
}

static void set_buffer(int fd, int option)
{
	int bytes = BUFFER;

	if (setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof(bytes)))
		die("SO_SNDBUF or SO_RCVBUF");
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 'z' },
		{ "start-on-stdin", no_argument, NULL, 's' },
		{ "max-seconds", required_argument, NULL, 'm' },
		{ 0 },
	};
	static const char *const kinds[] = { "unix", "tcp", "socketpair" };
	static uint64_t errnos[ERRNO_MAX];
	bool wait_for_start = false;
	unsigned max_seconds = 120, kind = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'z':
			size = number(optarg, 1 << 30, "--size is a number");
			break;
		case 's':
			wait_for_start = true;
			break;
		case 'm':
			max_seconds = (unsigned)number(optarg, UINT_MAX, "--max-seconds is a number");
			break;
		default:
			usage("unknown option");
		}
	}
	if (argc - optind != 2)
		usage("two arguments are needed");
	while (kind < 3 && strcmp(argv[optind], kinds[kind]))
		kind++;
	if (kind == 3)
		usage("the first argument is unix, tcp or socketpair");
	const unsigned n = (unsigned)number(argv[optind + 1], THREADS_MAX, "N is 1 to 4096");
	if (!n || size < 1)
		usage("N and BYTES are at least 1");
	alarm(max_seconds);
	signal(SIGPIPE, SIG_IGN);

	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files))
		die("getrlimit");
	if (files.rlim_cur < n * 2 + 64) {
		files.rlim_cur = n * 2 + 64;
		if (files.rlim_max < files.rlim_cur)
			files.rlim_max = files.rlim_cur;
		if (setrlimit(RLIMIT_NOFILE, &files))
			die("setrlimit");
	}
	uint64_t *received = mmap(NULL, sizeof(*received), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *zeros = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct sender *senders = calloc(n, sizeof(*senders));
	int *theirs = calloc(n, sizeof(*theirs));
	if (received == MAP_FAILED || zeros == MAP_FAILED || !senders || !theirs)
		die("mmap");
	data = zeros;

	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_un un;
	} to = { .any.sa_family = kind == TCP ? AF_INET : AF_UNIX };
	socklen_t len = kind == TCP ? sizeof(to.in) : sizeof(sa_family_t);
	int listener = -1, release[2];
	if (kind == SOCKETPAIR) {
		for (unsigned i = 0; i < n; i++) {
			int pair[2];

			if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
				die("socketpair");
			senders[i].sock = pair[0];
			theirs[i] = pair[1];
		}
	} else {
		if (kind == TCP)
			to.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		listener = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (listener < 0)
			die("socket");
		set_buffer(listener, SO_RCVBUF);
		if (bind(listener, &to.any, len) || listen(listener, THREADS_MAX))
			die("bind and listen");
		len = sizeof(to);
		if (getsockname(listener, &to.any, &len))
			die("getsockname");
	}
	if (pipe2(release, O_CLOEXEC))
		die("pipe2");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		close(release[1]);
		for (unsigned i = 0; kind == SOCKETPAIR && i < n; i++)
			close(senders[i].sock);
		receive(listener, theirs, n, release[0], max_seconds, received);
	}
	close(release[0]);
	for (unsigned i = 0; i < n; i++) {
		if (kind == SOCKETPAIR) {
			close(theirs[i]);
		} else {
			senders[i].sock = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
			if (senders[i].sock < 0)
				die("socket");
		}
		set_buffer(senders[i].sock, SO_SNDBUF);
		if (kind != SOCKETPAIR && connect(senders[i].sock, &to.any, len))
			die("connect");
	}
	if (listener >= 0)
		close(listener);

	if (wait_for_start) {
		printf("ready %d %u\n", (int)getpid(), kind == TCP ? ntohs(to.in.sin_port) : 0);
		wait_for_line();
	}
	pthread_attr_t attr;
	if (pthread_attr_init(&attr) || pthread_attr_setstacksize(&attr, 128 << 10)) {
		fprintf(stderr, "blocked_senders: cannot set the stack size\n");
		return 1;
	}
	for (unsigned i = 0; i < n; i++) {
		errno = pthread_create(&senders[i].thread, &attr, send_and_block, &senders[i]);
		if (errno)
			die("pthread_create");
	}
	unsigned blocked = wait_until_blocked(senders, n);
	printf("blocked %d %u\n", (int)getpid(), blocked);
	wait_for_line();

	uint64_t released = now_ns();
	if (write(release[1], "g", 1) != 1)
		die("release");
	uint64_t *times = calloc(n, sizeof(*times)), bytes = 0;
	unsigned ok = 0, shorts = 0, failed = 0;
	if (!times)
		die("calloc");
	for (unsigned i = 0; i < n; i++) {
		errno = pthread_join(senders[i].thread, NULL);
		if (errno)
			die("pthread_join");
	}
	uint64_t drain = now_ns() - released;
	for (unsigned i = 0; i < n; i++) {
		times[i] = senders[i].ns;
		if (senders[i].result < 0) {
			failed++;
			errnos[senders[i].error < ERRNO_MAX ? senders[i].error : 0]++;
		} else {
			ok++;
			bytes += (uint64_t)senders[i].result;
			shorts += (size_t)senders[i].result < size;
		}
		close(senders[i].sock);
	}
	int status;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "blocked_senders: the receiver failed (status %#x)\n", (unsigned)status);
		return 1;
	}
	qsort(times, n, sizeof(*times), ascending);
	printf("{\"program\":\"blocked_senders\",\"pid\":%d,\"receiver_pid\":%d,\"kind\":\"%s\""
	       ",\"threads\":%u,\"size\":%zu,\"started\":%u,\"blocked\":%u,\"returned_early\":%u"
	       ",\"returned\":%u,\"ok\":%u,\"short\":%u,\"failed\":%u,\"errnos\":{",
	       (int)getpid(), (int)child, kinds[kind], n, size, n, blocked, n - blocked, ok + failed, ok,
	       shorts, failed);
	const char *comma = "";
	for (int e = 0; e < ERRNO_MAX; e++) {
		const char *name = strerrorname_np(e);

		if (!errnos[e])
			continue;
		if (name)
			printf("%s\"%s\":%" PRIu64, comma, name, errnos[e]);
		else
			printf("%s\"%d\":%" PRIu64, comma, e, errnos[e]);
		comma = ",";
	}
	printf("},\"bytes\":%" PRIu64 ",\"received_bytes\":%" PRIu64 ",\"port\":%u,\"p50_ns\":%" PRIu64
	       ",\"max_ns\":%" PRIu64 ",\"drain_ns\":%" PRIu64 "}\n",
	       bytes, *received, kind == TCP ? ntohs(to.in.sin_port) : 0, times[(n - 1) / 2],
	       times[n - 1], drain);
	if (fflush(stdout))
		die("stdout");
	return 0;
}
