package postprocess

// Config is what the stage `postprocess` can be told.
type Config struct {
	Skip []Step `json:"skip" jsonschema:"enum=finish,enum=think,enum=fence,enum=chatter,enum=quotes,enum=space,enum=refusal,enum=echo,enum=script,enum=length,enum=repetition" jsonschema_description:"Steps to leave out: finish (an answer that was cut or withheld), think (think blocks), fence (code fences), chatter (announcements and notes), quotes (quotation marks round the answer), space (white space round it), refusal, echo (the text itself), script (another alphabet), length (far too long or short), repetition (the same again and again)."`
}

// Defaults returns the values used for what the file leaves out: every step.
func Defaults() Config { return Config{} }

// A Step is one thing that is looked at in an answer.
type Step string

const (
	Finish     Step = "finish"     // cut at the output limit, or withheld
	Think      Step = "think"      // blocks in which the model thinks
	Fence      Step = "fence"      // a code fence, or a tag, round the answer
	Chatter    Step = "chatter"    // an announcement before it, a note after it
	Quotes     Step = "quotes"     // quotation marks round it
	Space      Step = "space"      // white space round it
	Refusal    Step = "refusal"    // an apology in its place
	Echo       Step = "echo"       // the text itself in its place
	Script     Step = "script"     // letters that the target language does not use
	Length     Step = "length"     // far longer or shorter than the text
	Repetition Step = "repetition" // the same again and again
)
