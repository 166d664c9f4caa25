#include "cudnn_json.h"

#include <cctype>
#include <cstdlib>
#include <cstring>

namespace cudnn
{

namespace
{

constexpr int DEEPEST = 32;

class Reader
{
  public:
    explicit Reader(const std::string &text) : at_(text.c_str())
    {
    }

    bool all(Json &out)
    {
        return value(out, 0) && (skip(), *at_ == '\0');
    }

  private:
    void skip()
    {
        while (std::isspace(static_cast<unsigned char>(*at_)))
            at_++;
    }

    bool take(char wanted)
    {
        skip();
        if (*at_ != wanted) return false;
        at_++;
        return true;
    }

    bool word(const char *wanted)
    {
        const size_t length = std::strlen(wanted);
        if (std::strncmp(at_, wanted, length) != 0) return false;
        at_ += length;
        return true;
    }

    bool string(std::string &out)
    {
        if (!take('"')) return false;
        for (; *at_ != '"'; at_++) {
            if (*at_ == '\0' || *at_ == '\\') return false; // names only: nothing is escaped
            out += *at_;
        }
        at_++;
        return true;
    }

    bool number(Json &out)
    {
        char *end = nullptr;
        out.kind = Json::NUMBER;
        out.number = std::strtod(at_, &end);
        if (end == at_) return false;
        at_ = end;
        return true;
    }

    bool list(Json &out, int depth)
    {
        out.kind = Json::LIST;
        if (take(']')) return true;
        do {
            out.list.emplace_back();
            if (!value(out.list.back(), depth)) return false;
        } while (take(','));
        return take(']');
    }

    bool object(Json &out, int depth)
    {
        out.kind = Json::OBJECT;
        if (take('}')) return true;
        do {
            std::string name;
            if (!string(name) || !take(':') || !value(out.members[name], depth)) return false;
        } while (take(','));
        return take('}');
    }

    bool value(Json &out, int depth)
    {
        skip();
        if (depth > DEEPEST) return false;
        if (take('{')) return object(out, depth + 1);
        if (take('[')) return list(out, depth + 1);
        if (*at_ == '"') {
            out.kind = Json::TEXT;
            return string(out.text);
        }
        if (*at_ == 't' || *at_ == 'f') {
            out.kind = Json::TRUTH;
            out.truth = *at_ == 't';
            return word(out.truth ? "true" : "false");
        }
        return number(out);
    }

    const char *at_;
};

} // namespace

const Json *Json::member(const std::string &name, Kind wanted) const
{
    const auto found = members.find(name);
    return found == members.end() || found->second.kind != wanted ? nullptr : &found->second;
}

bool json_read(const std::string &text, Json &out)
{
    return Reader(text).all(out);
}

} // namespace cudnn
