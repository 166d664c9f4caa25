// See violation.h.
#include "violation.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

static std::string read_all(int from)
{
    std::string text;
    char part[4096];
    for (ssize_t got; (got = read(from, part, sizeof part)) > 0;)
        text.append(part, static_cast<size_t>(got));
    return text;
}

// Runs it in a child; what it wrote on stderr, and how it ended.
static std::string run(const std::function<void()> &act, int *status)
{
    int ends[2];
    fflush(nullptr);
    if (pipe(ends) != 0) abort();
    const pid_t child = fork();
    if (child < 0) abort();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        act();
        fflush(nullptr);
        _exit(0);
    }
    close(ends[1]);
    const std::string text = read_all(ends[0]);
    close(ends[0]);
    if (waitpid(child, status, 0) != child) abort();
    return text;
}

// Where the file's name that ends at `colon` begins, with and without its folder; both `colon` where none ends there.
static std::pair<size_t, size_t> file_before(const std::string &text, size_t colon)
{
    const size_t path = text.find_last_of(" (\n", colon) + 1, folder = text.rfind('/', colon);
    const size_t name = folder != std::string::npos && folder >= path ? folder + 1 : path;
    const std::string suffix = text.substr(0, colon).substr(std::min(text.rfind('.', colon), colon));
    const bool is_file = suffix == ".cu" || suffix == ".cuh" || suffix == ".cpp" || suffix == ".h";
    return is_file ? std::make_pair(path, name) : std::make_pair(colon, colon);
}

static std::string without_places(std::string text)
{
    for (size_t at = 0; (at = text.find("0x", at)) != std::string::npos;)
        text.replace(at, 2 + strspn(text.c_str() + at + 2, "0123456789abcdef"), "P");
    for (size_t colon = 0; (colon = text.find(':', colon + 1)) != std::string::npos;) {
        const auto [path, name] = file_before(text, colon);
        const size_t digits = strspn(text.c_str() + colon + 1, "0123456789");
        if (path == colon || digits == 0) continue;
        text.replace(colon + 1, digits, "L");
        text.erase(path, name - path);
        colon -= name - path;
    }
    return text;
}

std::string violation_of(const std::function<void()> &act)
{
    int status;
    const std::string text = without_places(run(act, &status));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return text + "survived";
    const size_t begin = text.rfind("sim: ");
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || begin == std::string::npos)
        return text + "died with status " + std::to_string(status);
    return text.substr(begin, text.find('\n', begin) - begin);
}

std::string output_of(const std::function<void()> &act)
{
    int status;
    return without_places(run(act, &status));
}
