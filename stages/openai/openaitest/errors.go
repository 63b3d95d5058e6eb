package openaitest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"
)

// An apiError is an answer with an error, as OpenAI writes it.
type apiError struct {
	status     int
	retryAfter time.Duration
	html       bool // a page of the edge instead
	packed     bool // with gzip
	body       errorBody
}

type errorBody struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

func errorOf(status int, kind, param, code, message string) *apiError {
	e := &apiError{status: status, body: errorBody{Message: message, Type: kind}}
	if param != "" {
		e.body.Param = &param
	}
	if code != "" {
		e.body.Code = &code
	}
	return e
}

const invalid = "invalid_request_error"

func badRequest(param, code, message string) *apiError {
	return errorOf(http.StatusBadRequest, invalid, param, code, message)
}

func noModel(id string) *apiError {
	return errorOf(http.StatusNotFound, invalid, "", "model_not_found",
		"The model `"+id+"` does not exist or you do not have access to it.")
}

func contextLength(limit, got int) *apiError {
	return badRequest("messages", "context_length_exceeded",
		"This model's maximum context length is "+strconv.Itoa(limit)+" tokens. However, your messages resulted in "+
			strconv.Itoa(got)+" tokens. Please reduce the length of the messages.")
}

func wrongKey() *apiError {
	return errorOf(http.StatusUnauthorized, invalid, "", "invalid_api_key",
		"Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.")
}

// errorFault is the answer to a fault that is one, else nil.
func errorFault(kind, model string, cfg *Config) *apiError {
	edge := func(status int) *apiError { return &apiError{status: status, html: true} }
	switch kind {
	case Error500:
		return errorOf(http.StatusInternalServerError, "server_error", "", "",
			"The server had an error while processing your request. Sorry about that!")
	case Error502:
		return edge(http.StatusBadGateway)
	case Error503:
		return edge(http.StatusServiceUnavailable)
	case Error504:
		return edge(http.StatusGatewayTimeout)
	case RateLimit, RateLimitBare:
		e := errorOf(http.StatusTooManyRequests, "requests", "", "rate_limit_exceeded",
			"Rate limit reached for "+model+" in organization org-sim on requests per min (RPM).")
		if kind == RateLimit {
			e.retryAfter = cfg.RetryAfter
		}
		return e
	case InsufficientQuota:
		return errorOf(http.StatusTooManyRequests, "insufficient_quota", "", "insufficient_quota",
			"You exceeded your current quota, please check your plan and billing details.")
	case Error401:
		return wrongKey()
	case Error404:
		return noModel(model)
	case ContextLength:
		return contextLength(128000, 131072)
	case Moderated:
		return badRequest("prompt", "content_filter", "The response was filtered due to the prompt triggering the content management policy.")
	case NoBalance:
		return errorOf(http.StatusPaymentRequired, "unknown_error", "", "invalid_request_error", "Insufficient Balance")
	case ErrorIn200:
		return errorOf(http.StatusOK, "upstream_error", "", "502", "Provider returned error")
	case PackedError:
		e := errorFault(Error500, model, cfg)
		e.packed = true
		return e
	}
	return nil
}

// refusesParameter is the refusal of a parameter that body has and that can be left out;
// without one, of one that it has not.
func refusesParameter(body []byte) *apiError {
	name := "reasoning_effort"
	if bytes.Contains(body, []byte(`"temperature":`)) {
		name = "temperature"
	}
	return badRequest(name, "unsupported_parameter", "Unsupported parameter: '"+name+"' is not supported with this model.")
}

func (e *apiError) write(w http.ResponseWriter) {
	if e.retryAfter > 0 {
		ms := max(1, e.retryAfter.Milliseconds())
		w.Header().Set("retry-after-ms", strconv.FormatInt(ms, 10))
		w.Header().Set("retry-after", strconv.Itoa(int(math.Ceil(float64(ms)/1000))))
	}
	if e.html {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(e.status)
		text := strconv.Itoa(e.status) + " " + http.StatusText(e.status)
		w.Write([]byte("<html>\r\n<head><title>" + text + "</title></head>\r\n<body>\r\n<center><h1>" + text +
			"</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"))
		return
	}
	body, _ := json.MarshalIndent(map[string]errorBody{"error": e.body}, "", "  ") // strings alone: it cannot fail
	w.Header().Set("Content-Type", "application/json")
	if e.packed {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(body)
		z.Close()
		w.Header().Set("Content-Encoding", "gzip")
		body = b.Bytes()
	} else {
		body = append(body, '\n')
	}
	w.WriteHeader(e.status)
	w.Write(body)
}
